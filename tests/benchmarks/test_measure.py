"""The arithmetic between clock readings and reported figures."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measure import (
    Budget,
    Times,
    geometric_mean,
    measure,
    median,
    one_core,
    order_of,
    relative_error,
    spread,
)

POSITIVE = st.floats(1e-3, 1e3)


@given(st.lists(POSITIVE, min_size=1, max_size=8), POSITIVE)
def test_geometric_mean_is_that_of_ratios(values, factor):
    mean = geometric_mean(values)
    assert min(values) * (1 - 1e-9) <= mean <= max(values) * (1 + 1e-9)
    assert geometric_mean([value * factor for value in values]) == pytest.approx(mean * factor)
    assert geometric_mean([1 / value for value in values]) == pytest.approx(1 / mean)


def test_geometric_mean_refuses_what_has_none():
    assert math.isnan(geometric_mean([]))
    with pytest.raises(ValueError, match="positive"):
        geometric_mean([1.0, 0.0])


@given(st.integers(1, 7))
def test_all_run_once_a_round_and_all_come_first(count):
    names = [f"n{index}" for index in range(count)]
    rounds = [order_of(names, index) for index in range(2 * count)]
    assert all(sorted(one) == names for one in rounds)
    assert {one[0] for one in rounds} == set(names)


def test_what_stands_at_the_ends_of_a_chain_cancels_also_when_the_machine_drifts():
    drift = np.linspace(1, 2, 11)
    ends, layer = 50.0, 7.0
    few = Times(drift * (ends + 2 * layer), drift * (ends + 2 * layer))
    many = Times(drift * (ends + 6 * layer), drift * (ends + 6 * layer))
    difference = many.minus(few, 4)
    assert difference.cpu_us == pytest.approx(drift * layer)
    assert median(difference.wall_us) == pytest.approx(1.5 * layer)


def test_spread_is_the_interquartile_range_over_the_median():
    assert spread(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(2 / 3)


def test_warm_rounds_are_thrown_away_and_fast_functions_repeated():
    calls = {"slow": 0, "fast": 0}

    def slow():
        calls["slow"] += 1
        end = time.thread_time_ns() + 400_000
        while time.thread_time_ns() < end:
            pass

    def fast():
        calls["fast"] += 1

    with one_core():
        times = measure({"slow": slow, "fast": fast}, Budget(0.0, min_rounds=3, warm_rounds=2, sample_us=50))
    assert calls["slow"] == 2 + 3
    assert calls["fast"] > calls["slow"]
    assert len(times["slow"].cpu_us) == len(times["fast"].wall_us) == 3
    assert (times["slow"].cpu_us >= 400).all()
    assert median(times["fast"].cpu_us) < 100


def test_relative_error():
    expected = np.array([[1.0, -4.0]], np.float32)
    assert relative_error(expected, expected) == 0
    assert relative_error(np.array([1.0, -3.0], np.float32), expected) == pytest.approx(0.25)
    assert relative_error(np.array([np.nan, -4.0], np.float32), expected) == math.inf
    assert relative_error(np.ones(3, np.float32), expected) == math.inf
