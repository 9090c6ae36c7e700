from __future__ import annotations

from collections.abc import Callable

import numpy as np

from search import NPASSampler, make_sampler
from search.encoding import Code
from search.history import History, Observation
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]


def _run(name: str, space: SearchSpace, latency: Function, accuracy: Function, trials: int) -> list[float]:
    sampler = make_sampler(name, space, latency, 1.0, seed=0, trials=trials)
    observations: list[Observation] = []
    for done in range(trials):
        code = sampler.propose(History(tuple(observations)), np.random.default_rng([0, done]))
        assert code is not None
        observations.append(Observation(code, accuracy(space.decode(code))))
    return [observation.reward for observation in observations]


def test_beats_feasible_random_search(tiny: SearchSpace, latency: Function, accuracy: Function) -> None:
    found = {name: max(_run(name, tiny, latency, accuracy, trials=40)) for name in ("npas", "random")}
    assert found["npas"] > found["random"] + 0.5


def test_stalled_search_draws_every_second_candidate_uniformly(tiny: SearchSpace, latency: Function) -> None:
    sampler = NPASSampler(tiny, latency, 2.0, trials=60)
    rng, codes = np.random.default_rng(0), dict[Code, None]()
    for _ in range(31):
        codes[sampler.feasible.draw(rng, codes) or ()] = None
    rewards = [float(index == 2) for index in range(31)]
    history = History(tuple(Observation(code, reward) for code, reward in zip(codes, rewards, strict=True)))
    uniform = sampler.feasible.draw(np.random.default_rng(7), history.seen)
    assert sampler.propose(history, np.random.default_rng(7)) == uniform
    fresh = History((*history.observations[3:], history.observations[2]))
    assert sampler.propose(fresh, np.random.default_rng(7)) != uniform
