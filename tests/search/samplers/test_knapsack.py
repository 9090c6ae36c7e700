from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from search.history import History, Observation
from search.samplers import KnapsackSampler
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]


@pytest.mark.parametrize("seed", range(5))
def test_proposes_nearly_the_best_where_worths_add_up(toy: SearchSpace, latency: Function, seed: int) -> None:
    """Forty of 216 candidates, none of the best ten among them, tell the worth of each choice."""
    sampler, rng = KnapsackSampler(toy, latency, 1.5), np.random.default_rng(seed)
    worth = rng.normal(size=(3, 6))
    rewards = {
        code: 80 + 3 * float(sum(worth[site, index] for site, index in enumerate(code)))
        for code in itertools.product(range(6), repeat=3)
        if sampler.feasible.admits(code)
    }
    ranked = sorted(rewards, key=rewards.__getitem__, reverse=True)
    told = [ranked[place] for place in rng.permutation(np.arange(10, len(ranked)))[:40]]
    code = sampler.propose(History(tuple(Observation(one, rewards[one]) for one in told)), rng)
    assert code in ranked[:3]
