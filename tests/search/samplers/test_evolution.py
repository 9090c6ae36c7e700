from __future__ import annotations

from collections.abc import Callable

import numpy as np

from search.encoding import Code, distance
from search.history import History, Observation
from search.samplers import EvolutionSampler
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]


def _history(sampler: EvolutionSampler, rewards: list[float]) -> History:
    rng, codes = np.random.default_rng(0), dict[Code, None]()
    for _ in rewards:
        codes[sampler.feasible.draw(rng, codes) or ()] = None
    return History(tuple(Observation(code, reward) for code, reward in zip(codes, rewards, strict=True)))


def test_children_descend_from_the_young_and_the_oldest_dies(tiny: SearchSpace, latency: Function) -> None:
    """The best candidate is older than the population of 20: nothing may descend from it."""
    sampler = EvolutionSampler(tiny, latency, 2.0, trials=100)
    history = _history(sampler, [100.0] * 5 + [float(index) for index in range(20)])
    population = [observation.code for observation in history.observations[-20:]]
    parents = []
    for seed in range(60):
        child = sampler.propose(history, np.random.default_rng(seed))
        assert child is not None
        nearest = min(range(20), key=lambda index: distance(child, population[index]))
        assert distance(child, population[nearest]) <= 2
        parents.append(nearest)
    # The best of 10 out of 20 is among the upper half, and is the very best every second time.
    assert np.mean(parents) > 14
    assert 15 <= parents.count(19) <= 45


def test_first_generation_is_random(tiny: SearchSpace, latency: Function) -> None:
    sampler = EvolutionSampler(tiny, latency, 2.0, trials=100)
    history = _history(sampler, [1.0] * 19)
    drawn = sampler.feasible.draw(np.random.default_rng(5), history.seen)
    assert sampler.propose(history, np.random.default_rng(5)) == drawn
