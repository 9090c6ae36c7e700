from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_model.conformal import conformal_quantile


@pytest.mark.parametrize(("count", "coverage", "rank"), [(9, 0.9, 9), (99, 0.9, 90), (19, 0.95, 19), (10, 0.5, 6)])
def test_rank_is_that_of_the_theorem(count: int, coverage: float, rank: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert conformal_quantile(scores, coverage) == rank


@given(count=st.integers(0, 8))
def test_too_few_scores_promise_nothing(count: int) -> None:
    assert conformal_quantile(np.ones(count), 0.9) == math.inf


def test_coverage_is_reached_and_not_far_exceeded() -> None:
    generator = np.random.default_rng(0)
    covered = [
        abs(generator.standard_cauchy()) <= conformal_quantile(np.abs(generator.standard_cauchy(59)), 0.9)
        for _ in range(4000)
    ]
    assert 0.9 - 0.015 <= np.mean(covered) <= 0.9 + 1 / 60 + 0.015
