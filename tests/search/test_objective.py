from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.objective import reward


@given(st.floats(0, 100), st.floats(0.01, 1.0))
def test_under_the_budget_only_accuracy_counts(accuracy: float, share: float) -> None:
    assert reward(accuracy, share * 2.0, 2.0) == accuracy


def test_ten_percent_over_the_budget_cost_five_points() -> None:
    assert reward(90.0, 1.1, 1.0) == pytest.approx(85.0)
    assert reward(90.0, 1.1, 1.0, penalty=10.0) == pytest.approx(89.0)
