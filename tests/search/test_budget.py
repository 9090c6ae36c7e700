from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import Budget
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
