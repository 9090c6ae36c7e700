"""What is fetched ahead of its use."""

import re

import pytest

from compiler.kernels.products import AHEAD, FIRST_CACHE, fetch_ahead
from compiler.target import AVX2, AVX512, NEON, SSE, Target


@pytest.mark.parametrize("target", [AVX512, AVX2, SSE, NEON], ids=lambda target: target.name)
@pytest.mark.parametrize(("vectors", "unroll"), [(1, 1), (2, 8), (3, 4), (5, 1)])
def test_every_cache_line_of_an_entry_is_asked_for_once(target: Target, vectors: int, unroll: int) -> None:
    lines = fetch_ahead(vectors, unroll, target, FIRST_CACHE + 1)
    asked = [(4 * int(re.findall(r"w \+ (\d+)", line)[0]) - AHEAD) // 64 for line in lines]
    weights = range(4 * vectors * unroll * target.vector)
    assert asked == sorted({byte // 64 for byte in weights})


def test_what_stays_in_the_first_cache_is_not_asked_for() -> None:
    assert fetch_ahead(2, 8, AVX512, FIRST_CACHE) == []
