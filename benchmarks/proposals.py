"""How long samplers take for a proposal, as the history grows: python -m benchmarks.proposals [--quick]

The space is `tiny`; evaluations are drawn under the budget, and their rewards are made up. CPU time of one thread: of
the first proposal, for which a resumed search learns everything anew, and of the ten after it, each with one more
evaluation.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from benchmarks.command_line import brief_parser, common
from benchmarks.machine import machine_facts
from benchmarks.measure import one_core
from benchmarks.tables import write_table
from search import make_sampler, sampler_names
from search.history import History, Observation
from supernet import Candidate, SearchSpace, make_space

SPACE = Path(__file__).parents[1] / "conf" / "space" / "tiny.yaml"
INPUT, CLASSES = (1, 32, 32), 10
TRIALS = (300, 2000)
MORE = 10
BUDGET = 0.5
NOISE = 0.5


def latency_ms(candidate: Candidate) -> float:
    """Made up: each site costs something, less where it is pruned."""
    return 0.1 + sum(len(choice.operator) / choice.sparsity.rate for choice in candidate.choices)


def made_up_history(space: SearchSpace, budget_ms: float, count: int) -> list[Observation]:
    """Different random candidates under the budget, each choice of which has a worth of its own, and noise."""
    sampler = make_sampler("random", space, latency_ms, budget_ms)
    rng = np.random.default_rng(0)
    worths = [rng.normal(size=size) for size in sampler.encoding.sizes]
    observations: dict[tuple[int, ...], Observation] = {}
    while len(observations) < count:
        code = sampler.feasible.draw(rng, observations)
        assert code is not None
        reward = 90 + sum(worth[index] for worth, index in zip(worths, code, strict=True)) + NOISE * rng.normal()
        observations[code] = Observation(code, float(reward))
    return list(observations.values())


def measure_sampler(name: str, space: SearchSpace, observations: list[Observation], trials: int) -> dict[str, object]:
    """A row: seconds of the first proposal after so many trials, and median and largest of the next ones."""
    budget_ms = BUDGET * latency_ms(space.largest())
    sampler = make_sampler(name, space, latency_ms, budget_ms, trials=2 * trials)
    times = []
    for done in range(trials, trials + MORE + 1):
        history = History(tuple(observations[:done]))
        start = time.process_time()
        sampler.propose(history, np.random.default_rng(done))
        times.append(time.process_time() - start)
    first, *rest = times
    return {"sampler": name, "trials": trials, "first_s": first, "median_s": np.median(rest), "largest_s": max(rest)}


def tiny_space() -> SearchSpace:
    """The space that ships as `space=tiny`."""
    content = OmegaConf.to_container(OmegaConf.load(SPACE))
    assert isinstance(content, dict)
    return make_space({str(key): value for key, value in content.items()}, INPUT, CLASSES)


def main() -> None:
    told = common(brief_parser(__doc__).parse_args())
    space = tiny_space()
    rows = []
    with one_core():
        facts = machine_facts()
        observations = made_up_history(space, BUDGET * latency_ms(space.largest()), max(TRIALS) + MORE)
        for trials in TRIALS[:1] if told.quick else TRIALS:
            rows += [measure_sampler(name, space, observations, trials) for name in sampler_names()]
    table = pd.DataFrame(rows)
    print(table.round(4).to_string(index=False))
    write_table(told.folder / "proposals.csv", table, facts)


if __name__ == "__main__":
    main()
