from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_model.roofline import Roofline

CONSTANTS = st.floats(-2, 2).map(lambda exponent: 10.0**exponent)


def kernels(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return 10 ** generator.uniform([1, 1], [7, 7], (count, 2))


def test_time_is_the_larger_of_both_limits_and_the_call() -> None:
    roof = Roofline(cycle_us=0.5, byte_us=0.1, call_us=3.0)
    np.testing.assert_allclose(roof.us(np.array([[10.0, 10.0], [1.0, 100.0], [0.0, 0.0]])), [8.0, 13.0, 3.0])


@settings(max_examples=25, deadline=None)
@given(balance=CONSTANTS, scale=CONSTANTS, seed=st.integers(0, 100))
def test_exact_times_are_fitted(balance: float, scale: float, seed: int) -> None:
    work = kernels(200, seed)
    truth = Roofline(cycle_us=scale * 1e-4, byte_us=scale * balance * 1e-4, call_us=scale * 0.1)
    found = Roofline.fit(work, truth.us(work))
    assert np.median(np.abs(np.log(found.us(work) / truth.us(work)))) < 0.01


def test_outliers_do_not_move_it() -> None:
    work = kernels(200, 1)
    truth = Roofline(2e-4, 1e-4, 0.5)
    us = truth.us(work)
    us[::10] *= 5
    found = Roofline.fit(work, us)
    assert found.cycle_us == pytest.approx(truth.cycle_us, rel=0.05)
    assert found.byte_us == pytest.approx(truth.byte_us, rel=0.05)
    assert found.call_us == pytest.approx(truth.call_us, rel=0.1)
