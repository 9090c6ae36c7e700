from __future__ import annotations

import numpy as np
import pytest

from latency_model.neighbourhood import Neighbourhood


def test_remoteness_is_one_at_a_measured_kernel_and_grows_with_the_distance() -> None:
    features = np.random.default_rng(0).standard_normal((50, 4)) * [1, 10, 100, 0]
    found, _ = Neighbourhood.of(features)
    np.testing.assert_allclose(found.remoteness(features), 1)
    away = features[:1] + np.array([[0, 0, 1000, 0], [0, 0, 2000, 0]])
    near, far = found.remoteness(away)
    assert 1 < near < far
    assert found.remoteness(np.empty((0, 4))).shape == (0,)


def test_half_of_the_measured_kernels_are_less_than_typically_remote_from_the_others() -> None:
    _, remoteness = Neighbourhood.of(np.random.default_rng(0).standard_normal((51, 3)))
    assert np.median(remoteness) == pytest.approx(2)
    by_hand, expected = Neighbourhood.of(np.array([[0.0], [1.0], [3.0]]))
    assert by_hand.typical == pytest.approx(1 / np.std([0, 1, 3]))
    np.testing.assert_allclose(expected, [2, 2, 3])


def test_equal_kernels_do_not_divide_by_nothing() -> None:
    found, remoteness = Neighbourhood.of(np.ones((5, 2)))
    np.testing.assert_allclose(remoteness, 1)
    assert np.isfinite(found.remoteness(np.full((1, 2), 3.0))).all()
