from __future__ import annotations

from collections.abc import Callable

import numpy as np

from search import make_sampler
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
