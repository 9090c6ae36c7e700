from hypothesis import given
from hypothesis import strategies as st

from compiler.memory import Lifetime, largest_live_set, plan_memory

lifetimes = st.builds(
    lambda size, first, length: Lifetime(size, first, first + length),
    st.integers(1, 5000),
    st.integers(0, 12),
    st.integers(0, 6),
)


@given(st.lists(lifetimes, max_size=14))
def test_tensors_alive_together_never_overlap(lives: list[Lifetime]) -> None:
    tensors = {str(index): life for index, life in enumerate(lives)}
    offsets, arena = plan_memory(tensors)
    assert set(offsets) == set(tensors)
    for a, one in tensors.items():
        assert offsets[a] % 64 == 0
        assert offsets[a] + one.bytes <= arena
        for b, other in tensors.items():
            if a < b and one.first <= other.last and other.first <= one.last:
                assert offsets[a] + one.bytes <= offsets[b] or offsets[b] + other.bytes <= offsets[a]


@given(st.lists(lifetimes, min_size=1, max_size=14))
def test_the_arena_is_at_least_the_largest_live_set(lives: list[Lifetime]) -> None:
    tensors = {str(index): life for index, life in enumerate(lives)}
    assert plan_memory(tensors)[1] >= largest_live_set(tensors)


def test_a_chain_reuses_memory() -> None:
    chain = {str(step): Lifetime(1024, step, step + 1) for step in range(10)}
    assert plan_memory(chain)[1] == 2048 == largest_live_set(chain)
