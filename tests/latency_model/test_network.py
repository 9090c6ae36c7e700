from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_model.errors import InvalidMeasurement, TooFewMeasurements
from latency_model.network import NetworkModel, NetworkPrediction


def sums(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 3.0, count)


def test_before_anything_is_measured_it_is_the_plain_sum() -> None:
    assert NetworkModel().predict(2.0, 1.5, 3.0) == NetworkPrediction(2.0, 1.5, 3.0)


def test_exact_overhead_is_found() -> None:
    model = NetworkModel.fit(sums(30), sums(30) + 0.25, 0.9)
    assert model.scale == pytest.approx(1.0, abs=1e-6)
    assert model.overhead_ms == pytest.approx(0.25, abs=1e-6)
    assert model.log_width == pytest.approx(0.0, abs=1e-6)


def test_exact_scale_is_found_nearly_and_wholly_with_more_networks() -> None:
    few, many = (NetworkModel.fit(sums(n), 1.2 * sums(n) + 0.1, 0.9).scale for n in (10, 1000))
    assert 1.1 < few < 1.2
    assert many == pytest.approx(1.2, abs=0.005)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=2, max_size=20))
def test_neither_part_is_ever_negative(pairs: list[tuple[float, float]]) -> None:
    x, y = np.array(pairs).T
    model = NetworkModel.fit(x, y, 0.9)
    assert model.scale >= 0
    assert model.overhead_ms >= 0


def test_faster_than_the_sum_lowers_the_scale_not_the_overhead_below_zero() -> None:
    model = NetworkModel.fit(sums(200), 0.8 * sums(200) - 0.05, 0.9)
    assert model.overhead_ms == 0
    assert model.scale < 0.8


def test_interval_of_networks_covers_new_ones() -> None:
    generator = np.random.default_rng(5)
    covered = []
    for seed in range(300):
        x = sums(21, seed)
        y = (x + 0.1) * np.exp(0.05 * generator.standard_normal(21))
        found = NetworkModel.fit(x[:20], y[:20], 0.9).predict(x[20], x[20] / 2, x[20] * 2)
        covered.append(found.lower_ms <= y[20] <= found.upper_ms)
    assert 0.85 <= np.mean(covered) <= 0.97


def test_too_few_networks_keep_the_cautious_interval() -> None:
    model = NetworkModel.fit(sums(4), sums(4) + 0.1, 0.9)
    assert math.isinf(model.log_width)
    found = model.predict(1.0, 0.9, 1.2)
    assert found.upper_ms - found.mean_ms == pytest.approx(0.2 * model.scale)


@pytest.mark.parametrize("wrong", [float("nan"), 0.0, -1.0, float("inf")])
def test_impossible_latency_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidMeasurement, match="positive and finite"):
        NetworkModel.fit(np.ones(3), np.array([1.0, wrong, 1.0]), 0.9)


def test_one_network_is_not_enough() -> None:
    with pytest.raises(TooFewMeasurements, match="at least 2"):
        NetworkModel.fit(np.ones(1), np.ones(1), 0.9)
