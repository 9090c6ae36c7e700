"""What a fast evaluation costs, in seconds and in memory: python -m benchmarks.evaluation [--quick]

Candidates of `mobile_cifar`, cut from a supernet that was never trained, and pictures that are made up: neither changes
the cost. First one evaluation each of the largest, the smallest and random candidates, on two threads; then the memory
of the process before and after many evaluations of other random candidates, the first ones not counted.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf

from benchmarks.command_line import brief_parser, common
from benchmarks.machine import machine_facts
from benchmarks.tables import write_table
from supernet import Candidate, EvaluationRecipe, SuperNet, fast_evaluate, make_space
from training import Dataset, Split

SPACE = Path(__file__).parents[1] / "conf" / "space" / "mobile_cifar.yaml"
INPUT, CLASSES = (3, 32, 32), 10
THREADS = 2
RANDOM, PICTURES = 8, 2000
EVALUATIONS, FEWER_PICTURES, UNCOUNTED = 200, 512, 10
BATCHES = 4


def made_up(pictures: int) -> Dataset:
    """Noise with random labels: `pictures` to validate on, and as many as the recalibration wants."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        labels = torch.randint(CLASSES, (count,), generator=generator)
        return Split(torch.randn(count, *INPUT, generator=generator), labels)

    return Dataset("made up", split(1024), split(pictures), split(1), CLASSES)


def seconds(supernet: SuperNet, candidate: Candidate, data: Dataset, recipe: EvaluationRecipe) -> float:
    """Wall time of one evaluation."""
    start = time.perf_counter()
    fast_evaluate(supernet, candidate, data, recipe)
    return time.perf_counter() - start


def resident_mb() -> float:
    """Memory of this process that is not on disk."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    told = common(brief_parser(__doc__).parse_args())
    torch.set_num_threads(THREADS)
    config = OmegaConf.to_container(OmegaConf.load(SPACE))
    assert isinstance(config, dict)
    space = make_space({str(key): value for key, value in config.items()}, INPUT, CLASSES)
    supernet, rng = SuperNet(space, seed=0).eval(), np.random.default_rng(0)
    recipe = EvaluationRecipe(recalibration_batches=BATCHES, augment="shift_flip")
    data = made_up(PICTURES // 10 if told.quick else PICTURES)
    named = {"largest": space.largest(), "smallest": space.smallest()}
    named |= {f"random {index}": space.sample(rng) for index in range(RANDOM)}
    seconds(supernet, named["smallest"], data, recipe)
    rows = [
        {"candidate": name, "pictures": len(data.validation), "seconds": seconds(supernet, candidate, data, recipe)}
        for name, candidate in named.items()
    ]
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    fewer, memory = made_up(FEWER_PICTURES), []
    for _ in range(UNCOUNTED + (EVALUATIONS // 10 if told.quick else EVALUATIONS)):
        fast_evaluate(supernet, space.sample(rng), fewer, recipe)
        memory.append(resident_mb())
    before, after = memory[UNCOUNTED - 1], memory[-1]
    print(f"{len(memory) - UNCOUNTED} evaluations: {before:.0f} MB before, {after:.0f} MB after")
    facts = {"evaluations": str(len(memory) - UNCOUNTED), "mb_before": f"{before:.0f}", "mb_after": f"{after:.0f}"}
    write_table(told.folder / "evaluation.csv", pd.DataFrame(rows), {**machine_facts(), **facts})


if __name__ == "__main__":
    main()
