from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import hypervolume, pareto_front

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30)


def _dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] >= b[0] and a[1] <= b[1] and a != b


@given(points)
def test_equals_brute_force(rows: list[tuple[int, int]]) -> None:
    frame = pd.DataFrame(rows, columns=["accuracy", "latency"], dtype=float)
    wanted = {i for i, row in enumerate(rows) if not any(_dominates(other, row) for other in rows)}
    front = pareto_front(frame)
    assert set(front.index) == wanted
    assert front["latency"].is_monotonic_increasing
    assert front["accuracy"].is_monotonic_increasing


@given(points)
def test_other_columns_come_along_and_the_frame_is_left_alone(rows: list[tuple[int, int]]) -> None:
    frame = pd.DataFrame(rows, columns=["top1", "ms"], dtype=float).assign(name=[f"n{i}" for i in range(len(rows))])
    before = frame.copy()
    front = pareto_front(frame, maximise="top1", minimise="ms")
    assert (front["name"] == [f"n{i}" for i in front.index]).all()
    pd.testing.assert_frame_equal(frame, before)


def test_missing_values_are_refused() -> None:
    frame = pd.DataFrame({"accuracy": [1.0, float("nan")], "latency": [1.0, 2.0]})
    with pytest.raises(ValueError, match="NaN"):
        pareto_front(frame)


@given(points)
def test_hypervolume_counts_the_dominated_cells(rows: list[tuple[int, int]]) -> None:
    frame = pd.DataFrame(rows, columns=["accuracy", "latency"], dtype=float)
    cells = {
        (gain, cost) for gain in range(1, 7) for cost in range(5) if any(a >= gain and ms <= cost for a, ms in rows)
    }
    assert hypervolume(frame, (0.0, 5.0)) == len(cells)
