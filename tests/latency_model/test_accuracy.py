from __future__ import annotations

import numpy as np
import pytest

from latency_model.accuracy import accuracy_figures, noise_figures


def test_figures_of_a_case_done_by_hand() -> None:
    measured = np.array([100.0, 200.0, 50.0, 10.0])
    predicted = np.array([104.0, 218.0, 50.0, 13.0])
    found = accuracy_figures(predicted, measured, predicted * 0.95, predicted * 1.05)
    assert found["count"] == 4
    assert found["within_5"] == 50
    assert found["within_10"] == 75
    assert found["rmspe"] == pytest.approx(100 * np.sqrt((0.04**2 + 0.09**2 + 0.3**2) / 4))
    assert found["spearman"] == pytest.approx(1.0)
    assert found["kendall"] == pytest.approx(1.0)
    assert found["covered"] == 50


def test_reversed_order_is_minus_one() -> None:
    values = np.array([1.0, 2.0, 3.0])
    assert accuracy_figures(values[[1, 0, 2]], values, values, values)["kendall"] == pytest.approx(1 / 3)
    assert accuracy_figures(values[::-1], values, values, values)["spearman"] == pytest.approx(-1.0)


def test_rank_correlation_of_too_few_or_equal_values_is_unknown() -> None:
    for values in (np.array([1.0, 2.0]), np.ones(5)):
        found = accuracy_figures(values, values, values, values)
        assert np.isnan(found["spearman"])
        assert np.isnan(found["kendall"])


def test_noise_floor_leaves_out_kernels_measured_once() -> None:
    found = noise_figures(np.array([0.01, 0.07, np.nan, 0.2]))
    assert found["noise_within_5"] == pytest.approx(100 / 3)
    assert found["noise_within_10"] == pytest.approx(200 / 3)
    assert found["noise_rmspe"] == pytest.approx(100 * np.sqrt((0.01**2 + 0.07**2 + 0.2**2) / 3))
    assert all(np.isnan(value) for value in noise_figures(np.array([np.nan])).values())


def test_noise_floor_is_what_a_perfect_predictor_reaches() -> None:
    generator = np.random.default_rng(0)
    networks = 0.08 * generator.standard_normal((20_000, 2))
    reached = accuracy_figures(np.ones(20_000), np.exp(networks.mean(axis=1)), np.ones(20_000), np.ones(20_000))
    floor = noise_figures(networks.std(axis=1, ddof=1) / np.sqrt(2))
    assert floor["noise_within_10"] == pytest.approx(reached["within_10"], abs=2)
    assert floor["noise_rmspe"] == pytest.approx(reached["rmspe"], abs=0.3)
