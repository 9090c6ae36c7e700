"""The extents of blocks, and what runs of filters meet of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.extents import EXTENTS, extent_along, groups_met, share_kept


@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 70))
def test_runs_meet_the_groups_that_their_members_are_in(total: int, run: int, extent: int) -> None:
    met = [len({index // extent for index in range(first, min(first + run, total))}) for first in range(0, total, run)]
    assert dict(groups_met(total, run, extent)) == {count: met.count(count) for count in met}


@given(st.sampled_from(EXTENTS), st.integers(0, 99), st.sampled_from([0, 1]))
def test_extent_of_regular_blocks(extent: int, seed: int, axis: int) -> None:
    blocks = np.random.default_rng(seed).random((320 // extent, 400)) < 0.2
    mask = np.repeat(blocks, extent, 0)
    assert extent_along(np.moveaxis(mask, 0, axis), axis, 64) == extent


def test_no_extent_is_longer_than_asked_for_or_than_there_are_filters() -> None:
    alike = np.repeat(np.random.default_rng(0).random((1, 400)) < 0.2, 48, 0)
    assert extent_along(alike, 0, 64) == 48
    assert extent_along(alike, 0, 8) == 8
    assert extent_along(alike[:1], 0, 64) == 1


def test_shares_are_those_of_groups_kept_by_chance() -> None:
    assert share_kept(0.5, [(1, 3)]) == 0.5
    assert share_kept(0.5, [(2, 1), (1, 1)]) == pytest.approx((0.75 + 0.5) / 2)
