from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_model.errors import InvalidMeasurement, TooFewMeasurements
from latency_model.term_sum import TermSum

GROUPS = np.repeat(np.arange(3), 4)
TRUTH = np.array([1.0, 1.2, 0.9, 1.1, 3.0, 2.5, 3.5, 3.0, 0.0, 0.0, 0.1, 0.1])


def drawn(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (count, len(GROUPS))).astype(np.float64)


def test_exact_sums_are_found() -> None:
    counts = drawn(60)
    found = TermSum.fit(counts, counts @ TRUTH + 0.7, GROUPS, 1e-12)
    np.testing.assert_allclose(found.weights, TRUTH, atol=1e-5)
    assert found.overhead == pytest.approx(0.7, abs=1e-4)
    np.testing.assert_allclose(found.predict(counts), counts @ TRUTH + 0.7, rtol=1e-5)


def test_terms_of_a_group_agree_in_the_limit_of_a_strong_prior() -> None:
    counts = drawn(60)
    found = TermSum.fit(counts, counts @ TRUTH + 0.7, GROUPS, 1e9)
    for group in range(3):
        weights = found.weights[group == GROUPS]
        np.testing.assert_allclose(weights, weights[0], rtol=1e-3, atol=1e-6)


def test_with_few_networks_terms_never_seen_cost_what_their_group_does() -> None:
    counts = drawn(8)
    counts[:, 5] = 0
    found = TermSum.fit(counts, counts @ TRUTH + 0.7, GROUPS, 1e-2)
    assert found.weights[5] == pytest.approx(3.0, rel=0.25)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 30), strength=st.sampled_from([1e-3, 1e-1]))
def test_nothing_is_ever_negative(seed: int, count: int, strength: float) -> None:
    measured = np.random.default_rng(seed).uniform(0.1, 10, count)
    found = TermSum.fit(drawn(count, seed), measured, GROUPS, strength)
    assert (found.weights >= 0).all()
    assert found.overhead >= 0


def test_impossible_latencies_are_refused() -> None:
    with pytest.raises(TooFewMeasurements, match="no measured network"):
        TermSum.fit(drawn(0), np.empty(0), GROUPS, 1e-2)
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InvalidMeasurement, match="positive and finite"):
            TermSum.fit(drawn(2), np.array([1.0, wrong]), GROUPS, 1e-2)
