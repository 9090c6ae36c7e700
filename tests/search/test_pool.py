from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from search.encoding import Code, Encoding, distance
from search.feasible import FeasibleSet
from search.history import History, Observation
from search.pool import POOL, make_pool
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]


@pytest.fixture
def feasible(tiny: SearchSpace, latency: Function) -> FeasibleSet:
    return FeasibleSet(Encoding(tiny), latency, 2.0)


@pytest.fixture
def history(tiny: SearchSpace, feasible: FeasibleSet, accuracy: Function) -> History:
    rng, seen = np.random.default_rng(0), dict[Code, None]()
    for _ in range(40):
        seen[feasible.draw(rng, seen) or ()] = None
    return History(tuple(Observation(code, accuracy(tiny.decode(code))) for code in seen))


def test_pool_is_new_admitted_without_repeats_and_mixed(feasible: FeasibleSet, history: History) -> None:
    rng = np.random.default_rng(1)
    proposed: list[Code] = []

    def propose() -> Code:
        proposed.append(feasible.encoding.draw(rng))
        return proposed[-1]

    pool = make_pool(feasible, history, propose, rng)
    assert len(pool) == len(set(pool)) == POOL
    assert not history.seen & set(pool)
    assert all(feasible.admits(code) for code in pool)
    assert len(set(pool) & set(proposed)) == 0.4 * POOL
    best = [observation.code for observation in history.ranked[:10]]
    close = [code for code in pool if min(distance(code, parent) for parent in best) <= 2]
    assert len(close) >= 0.35 * POOL


def test_candidates_by_rule_take_the_place_of_uniform_ones(feasible: FeasibleSet, history: History) -> None:
    rng = np.random.default_rng(1)
    ruled: list[Code] = []

    def by_rule() -> Code:
        code = feasible.draw(rng, history.seen)
        assert code is not None
        ruled.append(code)
        return code

    pool = make_pool(feasible, history, None, rng, by_rule)
    assert len(pool) == len(set(pool)) == POOL
    assert len(set(pool) & set(ruled)) == 0.05 * POOL
    best = [observation.code for observation in history.ranked[:10]]
    assert all(code in ruled or min(distance(code, parent) for parent in best) <= 2 for code in pool)


def test_source_that_repeats_itself_does_not_hold_up_the_pool(feasible: FeasibleSet, history: History) -> None:
    stuck: Iterator[Code] = iter(lambda: history.ranked[0].code, None)
    pool = make_pool(feasible, history, lambda: next(stuck), np.random.default_rng(0))
    assert 0.9 * POOL <= len(pool) <= POOL


def test_only_candidate_under_the_budget_is_its_own_parent(feasible: FeasibleSet, history: History) -> None:
    alone = History(history.observations[:1])
    pool = make_pool(feasible, alone, None, np.random.default_rng(0))
    close = [code for code in pool if distance(code, history.observations[0].code) <= 2]
    assert len(close) >= 0.7 * POOL
