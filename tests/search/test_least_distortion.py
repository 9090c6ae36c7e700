"""Candidates of least distortion, against all candidates of a small space."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from search.encoding import Code, Encoding
from search.feasible import FeasibleSet
from search.least_distortion import POWERS, LeastDistortion, log_norms
from supernet import Candidate, Distortions, SearchSpace

Function = Callable[[Candidate], float]
BUDGETS_MS = (0.45, 0.8, 1.3, 2.0)


def drawn(space: SearchSpace, seed: int) -> Distortions:
    """Any distortions, 0 for the largest candidate's choices."""
    rng = np.random.default_rng(seed)
    found = tuple(rng.exponential(size=len(space.choices(site))) for site in range(len(space.sites)))
    for values, index in zip(found, space.encode(space.largest()), strict=True):
        values[index] = 0.0
    return found


def costly(space: SearchSpace, latency: Function, seed: int) -> Distortions:
    """The more a choice saves, the more it distorts, up to a random factor."""
    rng = np.random.default_rng(seed)
    largest, found = space.largest().choices, []
    for site in range(len(largest)):
        choices = space.choices(site)
        around = [Candidate((*largest[:site], choice, *largest[site + 1 :])) for choice in choices]
        saved = np.array([max(0.0, latency(space.largest()) - latency(candidate)) for candidate in around])
        found.append(saved * np.exp(0.5 * rng.normal(size=len(saved))))
    return tuple(found)


def lost(distortions: Distortions, code: Code, power: float) -> float:
    return float(sum(values[index] ** power for values, index in zip(distortions, code, strict=True)))


def cheapest(losses: list[NDArray[np.float64]], extra_ms: Sequence[Sequence[float]], price: float) -> Code:
    """Of every site the choice of the least loss + price * milliseconds."""
    return tuple(int(np.argmin(loss + price * np.array(extra))) for loss, extra in zip(losses, extra_ms, strict=True))


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("budget_ms", BUDGETS_MS)
@pytest.mark.parametrize("seed", range(3))
def test_no_candidate_within_the_budget_is_better_by_one_change_or_by_one_price(
    toy: SearchSpace, latency: Function, power: float, budget_ms: float, seed: int
) -> None:
    """With latencies that add up, against all 216 candidates and all prices."""
    encoding, distortions = Encoding(toy), drawn(toy, seed)
    feasible = FeasibleSet(encoding, latency, budget_ms)
    code = LeastDistortion(feasible, distortions).code(power)
    ms, loss = latency(toy.decode(code)), lost(distortions, code, power)
    assert ms <= budget_ms
    for other in itertools.product(range(6), repeat=3):
        other_ms, other_loss = latency(toy.decode(other)), lost(distortions, other, power)
        assert not (other_ms <= ms + 1e-12 and other_loss < loss - 1e-12)
    for other in filter(feasible.admits, encoding.neighbours(code)):
        assert lost(distortions, other, power) >= loss - 1e-12
    losses = [values**power for values in distortions]
    priced = {cheapest(losses, feasible.extra_ms, price) for price in np.exp(np.linspace(-40, 20, 2000))}
    assert loss <= min(lost(distortions, other, power) for other in filter(feasible.admits, priced)) + 1e-12


def test_everything_stays_where_the_budget_allows_it(toy: SearchSpace, latency: Function) -> None:
    rule = LeastDistortion(FeasibleSet(Encoding(toy), latency, 100.0), drawn(toy, 0))
    assert all(rule.code(power) == toy.encode(toy.largest()) for power in POWERS)


@pytest.mark.parametrize("exponent", [0.6, 1.8])
def test_latencies_that_do_not_add_up_are_met_as_a_whole(tiny: SearchSpace, latency: Function, exponent: float) -> None:
    """The best within the budget of all candidates that there are for one price, though the parts tell too much or
    too little of what the whole takes."""
    feasible = FeasibleSet(Encoding(tiny), lambda c: latency(c) ** exponent, 1.5**exponent)
    distortions = costly(tiny, latency, 1)
    rule = LeastDistortion(feasible, distortions)
    for power in POWERS:
        losses = [values**power for values in distortions]
        priced = {cheapest(losses, feasible.extra_ms, price) for price in np.exp(np.linspace(-40, 20, 2000))}
        best = min(lost(distortions, code, power) for code in filter(feasible.admits, priced))
        assert lost(distortions, rule.code(power), power) <= best + 1e-12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.5, 0.7])
def test_nothing_is_pruned_for_nothing(tiny: SearchSpace, latency: Function, share: float, seed: int) -> None:
    """Where a rate saves time beside a pruned neighbour, as in the fastest candidate, and none beside a dense one."""
    largest, dense_ms = tiny.largest(), latency(tiny.largest())

    def coupled(candidate: Candidate) -> float:
        saved = 0.0
        for site, choice in enumerate(candidate.choices):
            alone = Candidate((*largest.choices[:site], choice, *largest.choices[site + 1 :]))
            neighbour = candidate.choices[(site + 1) % len(candidate.choices)]
            saved += (dense_ms - latency(alone)) * (neighbour.operator == "skip" or neighbour.sparsity.rate >= 5)
        return dense_ms - saved

    feasible = FeasibleSet(Encoding(tiny), coupled, share * dense_ms)
    distortions = costly(tiny, latency, seed)
    rule = LeastDistortion(feasible, distortions)
    for power in POWERS:
        code = rule.code(power)
        for site, values in enumerate(distortions):
            for index in np.flatnonzero(values < values[code[site]]):
                assert not feasible.latency_ms((*code[:site], int(index), *code[site + 1 :])) <= feasible.latency_ms(
                    code
                )


def test_what_is_left_of_the_budget_is_used(tiny: SearchSpace, latency: Function) -> None:
    feasible = FeasibleSet(Encoding(tiny), latency, 2.0)
    rule = LeastDistortion(feasible, costly(tiny, latency, 5))
    rng = np.random.default_rng(0)
    assert np.mean([feasible.latency_ms(rule.draw(rng)) for _ in range(20)]) > 0.95 * 2.0


def test_higher_powers_spread_the_damage(tiny: SearchSpace, latency: Function) -> None:
    feasible = FeasibleSet(Encoding(tiny), latency, 1.5)
    worst: dict[float, list[float]] = {1.0: [], 8.0: []}
    for seed in range(8):
        distortions = costly(tiny, latency, seed)
        rule = LeastDistortion(feasible, distortions)
        for power, found in worst.items():
            found.append(max(values[i] for values, i in zip(distortions, rule.code(power), strict=True)))
    assert np.mean(worst[8.0]) < 0.95 * np.mean(worst[1.0])


def test_start_goes_from_the_rule_to_draws_and_repeats_nothing(tiny: SearchSpace, latency: Function) -> None:
    feasible = FeasibleSet(Encoding(tiny), latency, 1.5)
    rule = LeastDistortion(feasible, costly(tiny, latency, 5))
    seen: list[Code] = []
    for count in range(20):
        code = rule.start(np.random.default_rng(count), seen)
        assert code is not None
        assert code not in seen
        assert feasible.admits(code)
        seen.append(code)
    by_rule = list(dict.fromkeys(rule.code(power) for power in POWERS))
    assert len(by_rule) > 1
    assert seen[: len(by_rule)] == by_rule
    assert rule.draw(np.random.default_rng(0)) == rule.draw(np.random.default_rng(0))


def test_start_ends_where_there_is_nothing_new(toy: SearchSpace, latency: Function) -> None:
    fastest_ms = latency(toy.smallest())
    feasible = FeasibleSet(Encoding(toy), latency, fastest_ms)
    rule = LeastDistortion(feasible, drawn(toy, 0))
    assert rule.start(np.random.default_rng(0), ()) == feasible.fastest
    assert rule.start(np.random.default_rng(0), {feasible.fastest}) is None


def test_norms_equal_numpys(tiny: SearchSpace) -> None:
    distortions, encoding, rng = drawn(tiny, 4), Encoding(tiny), np.random.default_rng(0)
    codes = [encoding.draw(rng) for _ in range(5)]
    found = log_norms(distortions, codes)
    for row, code in zip(found, codes, strict=True):
        values = [values[index] for values, index in zip(distortions, code, strict=True)]
        expected = [np.linalg.norm(values, power) for power in POWERS]
        assert np.exp(row) == pytest.approx(expected, rel=0.02)
    assert np.isfinite(log_norms(distortions, [tiny.encode(tiny.largest())])).all()
