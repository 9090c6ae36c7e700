from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import Budget, Budgets
from search.errors import BudgetError

positive = st.floats(min_value=1e-3, max_value=1e6)


@given(positive, positive)
def test_percentage_is_a_share_of_the_dense_latency(percent: float, dense_ms: float) -> None:
    assert Budget.parse(f"{percent!r}%").resolve(dense_ms) == pytest.approx(percent / 100 * dense_ms)


@given(positive, positive)
def test_milliseconds_do_not_depend_on_the_dense_latency(ms: float, dense_ms: float) -> None:
    for text in (f"{ms!r}ms", f" {ms!r} ms ", repr(ms), ms):
        assert Budget.parse(text).resolve(dense_ms) == ms


@given(positive)
def test_text_form_is_read_back(ms: float) -> None:
    for budget in (Budget(ms=ms), Budget(fraction=ms)):
        again = Budget.parse(str(budget))
        assert again.resolve(2.0) == pytest.approx(budget.resolve(2.0), rel=1e-4)


@pytest.mark.parametrize("text", ["", "fast", "-1ms", "0%", "nan", "inf", "1s", "50 %%", "1 2", "ms", True])
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(BudgetError, match=r"2ms.*50%"):
        Budget.parse(text)


@pytest.mark.parametrize("dense_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_relative_budget_needs_a_measured_dense_latency(dense_ms: float) -> None:
    with pytest.raises(BudgetError, match="measure"):
        Budget.parse("50%").resolve(dense_ms)


def test_budget_is_either_absolute_or_relative() -> None:
    for numbers in ({}, {"ms": 1.0, "fraction": 0.5}):
        with pytest.raises(BudgetError, match="one positive number"):
            Budget(**numbers)


def _never() -> float:
    raise AssertionError("only the front depends on the fastest candidate")


def test_one_budget_and_several_are_read_alike() -> None:
    assert Budgets.parse("50%").resolve(4.0, _never) == (2.0,)
    assert Budgets.parse(3).resolve(4.0, _never) == (3.0,)
    assert Budgets.parse(["1ms", "50%", 0.5]).resolve(4.0, _never) == (2.0, 1.0, 0.5)


def test_front_goes_from_the_dense_network_to_the_fastest_candidate_in_equal_ratios() -> None:
    limits = Budgets.parse("front").resolve(8.0, lambda: 1.0)
    assert limits[0] == pytest.approx(8.0)
    assert limits[-1] == pytest.approx(1.1)
    ratios = [a / b for a, b in pairwise(limits)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_budgets_that_say_nothing_are_refused() -> None:
    with pytest.raises(BudgetError, match="at least one"):
        Budgets.parse([])
    with pytest.raises(BudgetError, match="2ms"):
        Budgets.parse(["50%", "fast"])
    with pytest.raises(BudgetError, match="the same"):
        Budgets.parse(["50%", "2ms"]).resolve(4.0, _never)
    with pytest.raises(BudgetError, match="no front"):
        Budgets.parse("front").resolve(1.0, lambda: 0.95)
