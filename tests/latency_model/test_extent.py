from __future__ import annotations

import numpy as np
import pytest

from latency_model.extent import Extent, cases, ends

FEATURES = np.array([[0.0, 5.0, 1.0], [4.0, 5.0, 0.0], [2.0, 5.0, 0.0], [8.0, 5.0, 0.0]])
OPS = ["conv", "conv", "conv", "pool"]


def test_excess_is_the_distance_to_the_range_of_the_operation_in_deviations() -> None:
    extent = Extent.of(OPS, FEATURES)
    np.testing.assert_array_equal(extent.excess(OPS, FEATURES), 0)
    asked = np.array([[3.0, 5.0, 0.5], [6.0, 5.0, 0.0], [-1.0, 5.0, 0.0], [6.0, 5.0, 0.0]])
    deviation = np.std([0, 4, 2, 8])
    found = extent.excess(["conv", "conv", "conv", "pool"], asked)
    np.testing.assert_allclose(found, [0, 2 / deviation, 1 / deviation, 2 / deviation])


def test_excess_adds_up_over_features_and_counts_what_never_varied() -> None:
    extent = Extent.of(OPS, FEATURES)
    first, second = np.std([0, 4, 2, 8]), np.std([1, 0, 0, 0])
    asked = np.array([[5.0, 5.0, 0.0], [4.0, 7.0, 0.0], [5.0, 3.0, 2.0]])
    expected = [1 / first, 2, 1 / first + 2 + 1 / second]
    np.testing.assert_allclose(extent.excess(["conv"] * 3, asked), expected)
    assert extent.excess([], np.empty((0, 3))).shape == (0,)


def test_ends_are_a_tenth_with_their_equals_unless_these_are_too_many() -> None:
    high, low = (np.flatnonzero(end).tolist() for end in ends(np.arange(40.0)))
    assert high == [36, 37, 38, 39]
    assert low == [0, 1, 2, 3]
    tied = np.array([1.0] * 20 + [2.0] * 6 + [3.0] * 14)
    assert [int(end.sum()) for end in ends(tied)] == []
    strided = np.array([1.0] * 38 + [4.0] * 2 + [9.0] * 3)
    assert [np.flatnonzero(end).tolist() for end in ends(strided)] == [[38, 39, 40, 41, 42]]
    assert not list(ends(np.ones(40)))


@pytest.mark.parametrize(("ones", "found"), [(2, 0), (3, 1), (20, 1), (21, 0)])
def test_cases_are_neither_few_nor_most(ones: int, found: int) -> None:
    assert len(list(cases(np.arange(40) < ones))) == found
