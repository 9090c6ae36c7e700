from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search import CandidateSampler, make_sampler
from search.history import History, Observation
from supernet import Candidate, Distortions, SearchSpace

Function = Callable[[Candidate], float]


def _run(
    name: str, space: SearchSpace, latency: Function, accuracy: Function, trials: int, **options: Any
) -> list[float]:
    sampler = make_sampler(name, space, latency, 1.0, seed=0, trials=trials, **options)
    observations: list[Observation] = []
    for done in range(trials):
        code = sampler.propose(History(tuple(observations)), np.random.default_rng([0, done]))
        assert code is not None
        observations.append(Observation(code, accuracy(space.decode(code))))
    return [observation.reward for observation in observations]


def test_beats_feasible_random_search(tiny: SearchSpace, latency: Function, accuracy: Function) -> None:
    found = {name: max(_run(name, tiny, latency, accuracy, trials=40)) for name in ("npas", "random")}
    assert found["npas"] > found["random"] + 0.5


def _distortions(space: SearchSpace) -> Distortions:
    """The share of a 3x3 convolution that a choice leaves out."""
    kept = {"conv3x3": 1.0, "pw_dw3x3_pw(6)": 0.9, "pw_dw3x3_pw(3)": 0.7, "dw3x3_pw": 0.6, "conv1x1": 0.3, "skip": 0.0}
    return tuple(
        np.array([1 - kept[choice.operator] / choice.sparsity.rate**0.5 for choice in space.choices(site)])
        for site in range(len(space.sites))
    )


def _damaged(space: SearchSpace, known: Distortions) -> Function:
    """Accuracy that suffers from the worst sites more than from the sum, and from noise."""

    def accuracy(candidate: Candidate) -> float:
        code = space.encode(candidate)
        lost = np.array([values[index] for values, index in zip(known, code, strict=True)])
        return float(90 - 40 * np.sum(lost**3) + np.random.default_rng(code).normal())

    return accuracy


@pytest.mark.parametrize("name", ["npas", "bo_only", "knapsack"])
def test_begins_better_where_distortions_tell_something(name: str, tiny: SearchSpace, latency: Function) -> None:
    known = _distortions(tiny)
    accuracy = _damaged(tiny, known)
    without = _run(name, tiny, latency, accuracy, trials=20)
    told = _run(name, tiny, latency, accuracy, trials=4, distortions=lambda: known)
    assert max(told) > max(without)


@pytest.mark.parametrize("name", ["npas", "bo_only"])
def test_goes_on_from_the_candidates_of_least_distortion(name: str, tiny: SearchSpace, latency: Function) -> None:
    known = _distortions(tiny)
    told = _run(name, tiny, latency, _damaged(tiny, known), trials=20, distortions=lambda: known)
    assert max(told) > max(told[:4])


def test_proposals_with_distortions_are_new_feasible_and_a_function_of_the_history(
    tiny: SearchSpace, latency: Function, accuracy: Function
) -> None:
    def make() -> CandidateSampler:
        known = _distortions(tiny)
        return make_sampler("npas", tiny, latency, 1.0, seed=3, trials=20, distortions=lambda: known)

    lived, observations = make(), []
    for done in range(16):
        history = History(tuple(observations))
        code = lived.next_code(history)
        assert code not in history.seen
        assert latency(tiny.decode(code)) <= 1.0
        if done in (2, 11, 15):
            assert make().next_code(history) == code
        observations.append(Observation(code, accuracy(tiny.decode(code))))


def test_all_candidates_are_found_with_distortions_that_tell_nothing(
    toy: SearchSpace, latency: Function, accuracy: Function
) -> None:
    known = tuple(np.zeros(len(toy.choices(site))) for site in range(len(toy.sites)))
    sampler = make_sampler("npas", toy, latency, 0.45, trials=200, distortions=lambda: known)
    observations: list[Observation] = []
    while not sampler.feasible.exhausted(History(tuple(observations)).seen):
        code = sampler.next_code(History(tuple(observations)))
        observations.append(Observation(code, accuracy(toy.decode(code))))
    every = map(toy.decode, itertools.product(range(6), repeat=3))
    assert {o.code for o in observations} == {toy.encode(c) for c in every if latency(c) <= 0.45}
