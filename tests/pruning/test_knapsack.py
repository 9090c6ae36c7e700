"""Selections are the best that there are, by brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning import knapsack
from pruning.errors import BudgetTooSmall, InvalidOption
from pruning.knapsack import Option, select

NUMBERS = st.integers(-128, 320).map(lambda number: number / 64)  # sums of these have no rounding errors
OPTIONS = st.builds(Option, NUMBERS, NUMBERS)
SLOTS = st.lists(OPTIONS, min_size=1, max_size=4)
ALTERNATIVES = st.lists(SLOTS, min_size=1, max_size=2)
SITES = st.lists(st.lists(ALTERNATIVES, min_size=1, max_size=2), min_size=1, max_size=3)


def everything(sites):
    """(lost, ms) of every selection."""
    by_site = [[chosen for alternative in site for chosen in itertools.product(*alternative)] for site in sites]
    for selection in itertools.product(*by_site):
        options = [option for chosen in selection for option in chosen]
        yield sum(option.lost for option in options), sum(option.ms for option in options)


def sums(sites, picks):
    """(lost, ms) of the options that were picked."""
    options = [
        slot[index]
        for site, pick in zip(sites, picks, strict=True)
        for slot, index in zip(site[pick.alternative], pick.options, strict=True)
    ]
    return sum(option.lost for option in options), sum(option.ms for option in options)


def one_slot(generator, count, options):
    """Sites as layers give them: sparser is faster and loses more, with noise."""
    for _ in range(count):
        cost, importance = generator.lognormal(size=2)
        rates = np.sort(generator.uniform(1, 10, options))
        noise = generator.uniform(0.8, 1.2, (options, 2))
        yield [
            [[Option(importance * (1 - 1 / r) ** 2 * a, cost / r * b) for r, (a, b) in zip(rates, noise, strict=True)]]
        ]


@settings(deadline=None, max_examples=300)
@given(SITES, st.floats(0, 1))
def test_the_selection_is_the_best_of_all(sites, share):
    found = sorted(everything(sites))
    times = [ms for _, ms in found]
    budget = min(times) + share * (max(times) - min(times))
    selection = select(sites, budget)
    assert sums(sites, selection.picks) == (selection.lost, selection.ms)
    assert selection.lost == min(lost for lost, ms in found if ms <= budget + 1e-7)
    assert selection.ms <= budget + 1e-7
    assert selection.gap == 0


@settings(deadline=None, max_examples=50)
@given(SITES)
def test_a_budget_below_the_fastest_is_refused_by_name(sites):
    fastest = min(ms for _, ms in everything(sites))
    with pytest.raises(BudgetTooSmall) as raised:
        select(sites, fastest - 0.5)
    assert raised.value.fastest_ms == pytest.approx(fastest, abs=1e-9)


def test_an_option_that_is_slower_and_loses_more_is_never_taken():
    good, bad = Option(1.0, 1.0), Option(2.0, 2.0)
    for budget in (1.0, 2.0, 9.0):
        assert select([[[[bad, good]]]], budget).picks[0].options == (1,)


def test_coupled_layers_take_one_option_or_each_its_own():
    alike = [[Option(3.0, 2.0)]]
    free = [[Option(0.0, 3.0), Option(1.0, 1.0)], [Option(0.0, 3.0), Option(4.0, 1.0)]]
    assert select([[free, alike]], 4.0).picks == ((0, (1, 0)),)
    assert select([[free, alike]], 3.9).picks == ((1, (0,)),)
    assert select([[free[:1], alike]], 1.0).picks == ((0, (1,)),)


def test_a_hundred_layers_are_chosen_exactly():
    sites = list(one_slot(np.random.default_rng(0), 100, 30))
    budget = 0.4 * sum(max(option.ms for option in site[0][0]) for site in sites)
    selection = select(sites, budget)
    assert selection.gap == 0
    lagrangian = max(  # a lower bound from any multiplier, an independent one
        sum(min(option.lost + rate * option.ms for option in site[0][0]) for site in sites) - rate * budget
        for rate in np.geomspace(1e-3, 10, 200)
    )
    assert lagrangian <= selection.lost <= lagrangian * 1.01


def test_where_too_much_would_have_to_be_followed_the_gap_is_told(monkeypatch):
    generator = np.random.default_rng(1)
    sites = [[[[Option(float(-v), float(v)) for v in generator.uniform(0, 1, 4)]]] for _ in range(8)]
    budget = 0.5 * sum(max(option.ms for option in site[0][0]) for site in sites)
    exact = select(sites, budget)
    monkeypatch.setattr(knapsack, "STATES", 20)
    rough = select(sites, budget)
    assert rough.gap > 0
    assert exact.lost <= rough.lost <= exact.lost + rough.gap
    assert rough.ms <= budget * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_known_to_be_reached_is_never_given_up(monkeypatch, seed):
    """Of selections that all lose nearly what they gain in time, sums in another order differ by rounding."""
    generator = np.random.default_rng(seed)
    times = generator.uniform(size=(10, 4))
    losses = 1 - times * (1 + 0.02 * generator.standard_normal((10, 4)))
    sites = [[[list(map(Option, lost, ms))]] for lost, ms in zip(losses.tolist(), times.tolist(), strict=True)]
    budget = float(0.6 * times.min(1).sum() + 0.4 * times.max(1).sum())
    exact = select(sites, budget)
    monkeypatch.setattr(knapsack, "STATES", 50)
    monkeypatch.setattr(knapsack, "GAP", 0.01)
    rough = select(sites, budget)
    assert exact.lost <= rough.lost <= exact.lost + rough.gap + 1e-9


@pytest.mark.parametrize("option", [Option(float("nan"), 1.0), Option(1.0, float("inf"))])
def test_numbers_that_are_none_are_refused(option):
    with pytest.raises(InvalidOption, match="finite"):
        select([[[[option]]]], 1.0)


@pytest.mark.parametrize("site", [[], [[[]]]])
def test_a_site_without_options_is_refused(site):
    with pytest.raises(InvalidOption, match="site 0 has nothing to choose from"):
        select([site], 1.0)


def test_no_site_loses_nothing():
    assert select([], 0.0).picks == ()
