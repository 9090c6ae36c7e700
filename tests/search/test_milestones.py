from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from search.milestones import OFTEN, RARELY, Steps, milestone


@given(st.integers(0, 5000), st.sampled_from([OFTEN, RARELY]))
def test_milestones_are_reached_in_order_and_kept(count: int, steps: Steps) -> None:
    found = milestone(count, steps)
    assert found <= count
    assert milestone(found, steps) == found
    assert milestone(count + 1, steps) in (found, count + 1)
