from __future__ import annotations

from collections.abc import Callable

import numpy as np

from search.encoding import distance
from search.history import History, Observation
from search.samplers import LocalSearchSampler
from search.samplers.local_search import STARTS
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]


def test_climbs_by_first_improvement_and_restarts_at_the_optimum(
    toy: SearchSpace, latency: Function, accuracy: Function
) -> None:
    sampler = LocalSearchSampler(toy, latency, 2.0, seed=0)
    observations: list[Observation] = []
    centre: Observation | None = None
    starts: list[Observation] = []
    restarts = 0
    while len(observations) < 80:
        seen = {observation.code for observation in observations}
        code = sampler.propose(History(tuple(observations)), np.random.default_rng(len(observations)))
        assert code is not None
        observation = Observation(code, accuracy(toy.decode(code)))
        observations.append(observation)
        if centre is not None:
            left = [n for n in sampler.encoding.neighbours(centre.code) if n not in seen and sampler.feasible.admits(n)]
            if left:
                assert distance(code, centre.code) == 1
                centre = max(centre, observation, key=lambda o: o.reward)
                continue
            neighbours = [o for o in observations if distance(o.code, centre.code) == 1]
            assert all(o.reward <= centre.reward for o in neighbours)
            centre, starts, restarts = None, [], restarts + 1
        starts.append(observation)
        if len(starts) == STARTS:
            centre = max(starts, key=lambda o: o.reward)
    assert restarts >= 1
