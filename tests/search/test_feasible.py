from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from search.encoding import Code, Encoding
from search.errors import InfeasibleBudget, InvalidLatency
from search.feasible import FeasibleSet
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]


def _all_feasible(space: SearchSpace, latency: Function, budget_ms: float) -> set[Code]:
    codes = itertools.product(*(range(len(space.choices(site))) for site in range(len(space.sites))))
    return {code for code in codes if latency(space.decode(code)) <= budget_ms}


def test_fastest_and_extras_are_exact_for_additive_latencies(toy: SearchSpace, latency: Function) -> None:
    feasible = FeasibleSet(Encoding(toy), latency, 2.0)
    everything = {code: latency(toy.decode(code)) for code in _all_feasible(toy, latency, np.inf)}
    assert everything[feasible.fastest] == min(everything.values())
    for code, ms in everything.items():
        extras = sum(feasible.extra_ms[site][index] for site, index in enumerate(code))
        assert extras == pytest.approx(ms - everything[feasible.fastest])
        assert feasible.admits(code) == (ms <= 2.0)


def test_draws_are_uniform_over_the_feasible_candidates(toy: SearchSpace, latency: Function) -> None:
    feasible, rng = FeasibleSet(Encoding(toy), latency, 0.8), np.random.default_rng(0)
    wanted = _all_feasible(toy, latency, 0.8)
    counts = Counter(feasible.draw(rng, ()) for _ in range(100 * len(wanted)))
    assert set(counts) == wanted
    # Pearson's chi-squared has mean n - 1 and standard deviation sqrt(2 (n - 1)) under uniformity.
    statistic = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert abs(statistic - (len(wanted) - 1)) < 5 * np.sqrt(2 * (len(wanted) - 1))


def test_drawing_without_repeats_ends_with_the_whole_feasible_set(toy: SearchSpace, latency: Function) -> None:
    feasible, rng = FeasibleSet(Encoding(toy), latency, 1.0), np.random.default_rng(0)
    wanted, seen = _all_feasible(toy, latency, 1.0), set()
    while not feasible.exhausted(seen):
        code = feasible.draw(rng, seen)
        assert code is not None
        assert code not in seen
        seen.add(code)
    assert seen == wanted
    assert feasible.draw(rng, seen) is None


def test_tight_budget_in_a_huge_space_is_drawn_from_and_exhausted(tiny: SearchSpace, latency: Function) -> None:
    """A handful of candidates in 10^14: rejection cannot hit them, and neither can enumeration of the product."""
    fastest_ms = FeasibleSet(Encoding(tiny), latency, 100.0).latency_ms(
        FeasibleSet(Encoding(tiny), latency, 100.0).fastest
    )
    feasible, rng, seen = FeasibleSet(Encoding(tiny), latency, fastest_ms + 1e-9), np.random.default_rng(0), set()
    cheapest = [sum(extra < 1e-9 for extra in extras) for extras in feasible.extra_ms]
    while (code := feasible.draw(rng, seen)) is not None and len(seen) < 50:
        assert code not in seen
        assert feasible.admits(code)
        seen.add(code)
    assert len(seen) == min(50, np.prod(cheapest))


def test_draws_under_the_mask_are_admitted_where_latencies_add_up(tiny: SearchSpace, latency: Function) -> None:
    feasible, rng = FeasibleSet(Encoding(tiny), latency, 0.5), np.random.default_rng(0)
    assert not any(feasible.admits(feasible.encoding.draw(rng)) for _ in range(100))
    drawn = {feasible._draw_masked(rng) for _ in range(100)}
    assert len(drawn) > 50
    assert all(map(feasible.admits, drawn))


def test_infeasible_budget_names_the_fastest_candidate(toy: SearchSpace, latency: Function) -> None:
    with pytest.raises(InfeasibleBudget, match=r"0\.1 ms.*0\.22 ms.*conv1x1\|block_punched\(8x4\)\|5"):
        FeasibleSet(Encoding(toy), latency, 0.1)


def test_fastest_is_found_where_sites_depend_on_each_other(toy: SearchSpace) -> None:
    def coupled(candidate: Candidate) -> float:
        a, b, c = toy.encode(candidate)
        return 1.0 + abs(a - b) + abs(b - c) + 0.01 * (5 - a)

    feasible = FeasibleSet(Encoding(toy), coupled, 1.005)
    assert feasible.fastest == (5, 5, 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_latency_that_is_none_is_refused(toy: SearchSpace, value: float) -> None:
    with pytest.raises(InvalidLatency, match="milliseconds"):
        FeasibleSet(Encoding(toy), lambda candidate: value, 1.0)


def test_latency_of_a_candidate_is_asked_once(toy: SearchSpace, latency: Function) -> None:
    asked: Counter[Candidate] = Counter()

    def counting(candidate: Candidate) -> float:
        asked[candidate] += 1
        return latency(candidate)

    feasible = FeasibleSet(Encoding(toy), counting, 1.0)
    for seed in range(3):
        feasible.draw(np.random.default_rng(seed), ())
    assert set(asked.values()) == {1}


def test_where_the_smallest_candidate_fits_nothing_else_is_asked_for(tiny: SearchSpace, latency: Function) -> None:
    asked: list[Candidate] = []

    def counting(candidate: Candidate) -> float:
        asked.append(candidate)
        return latency(candidate)

    feasible = FeasibleSet(Encoding(tiny), counting, 100.0)
    assert asked == [tiny.smallest()]
    assert feasible.slack_ms == 100.0 - min(map(counting, [*asked, tiny.decode(feasible.fastest)]))
