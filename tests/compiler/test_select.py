"""The analytic choice among all schedules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import KernelSpec, find_target, schedule
from compiler.errors import UnsupportedOperator
from compiler.kernels import FAMILIES, FAMILIES_OF
from compiler.kernels.products import tile_cycles, tiles
from compiler.layout import BLOCKED, LAYOUTS, PLANAR
from compiler.select import offers
from pruning import Sparsity

SPARSITIES = (
    *(Sparsity(), Sparsity("block_punched(16x1)", 3.0), Sparsity("block_punched(8x4)", 2.5)),
    *(Sparsity("block_kernel(16x1)", 2.0), Sparsity("unstructured", 7.0)),
)


@st.composite
def convolutions(draw: st.DrawFn) -> KernelSpec:
    kernel, size = draw(st.sampled_from([1, 3, 5])), draw(st.integers(5, 40))
    spec = KernelSpec(
        "conv",
        draw(st.integers(1, 150)),
        draw(st.integers(1, 150)),
        size,
        draw(st.integers(5, 40)),
        (kernel, kernel),
        (draw(st.integers(1, 2)),) * 2,
        (kernel // 2, kernel // 2),
    )
    reads, writes = draw(st.sampled_from([(BLOCKED, BLOCKED), (PLANAR, BLOCKED), (PLANAR, PLANAR)]))
    return replace(spec.with_sparsity(draw(st.sampled_from(SPARSITIES))), reads=reads, writes=writes)


@settings(max_examples=60)
@given(convolutions(), st.sampled_from(["x86_avx512", "x86_avx2", "aarch64_neon"]))
def test_the_choice_is_the_first_of_the_fastest_of_all_offers(spec: KernelSpec, machine: str) -> None:
    target = find_target(machine)
    try:
        best = min(offers(spec, target), key=lambda offer: offer.cycles)
    except UnsupportedOperator:
        with pytest.raises(UnsupportedOperator):
            schedule(spec, target)
        return
    assert replace(schedule(spec, target), why="") == best
    for name in FAMILIES_OF["conv"]:
        every, some = list(FAMILIES[name].candidates(spec, target)), list(FAMILIES[name].fastest(spec, target))
        assert [offer for offer in every if offer in some] == some


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 30))
def test_tiles_cover_the_image_once_and_are_balanced(height: int, width: int, most: int) -> None:
    offered = tiles(height, width, most)
    rows, cols = offered.sizes[:, 0], offered.sizes[:, 1]
    assert (offered.rows * offered.cols <= most).all()
    assert ((offered.counts * rows * cols).sum(axis=0) == height * width).all()
    used = offered.counts > 0
    assert (rows[used] >= (offered.rows - 1).repeat(4).reshape(-1, 4).T[used]).all()
    assert (cols[used] >= (offered.cols - 1).repeat(4).reshape(-1, 4).T[used]).all()
    assert len(set(zip(offered.rows.tolist(), offered.cols.tolist(), strict=True))) == len(offered.rows)


def test_cycles_of_many_tiles_are_those_of_each() -> None:
    offered = tiles(14, 28, 12)
    together = tile_cycles(2, offered.rows, offered.cols, 4, 37.5, 16)
    alone = [
        tile_cycles(2, int(rows), int(cols), 4, 37.5, 16) for rows, cols in zip(offered.rows, offered.cols, strict=True)
    ]
    assert together.tolist() == alone


def test_layouts_that_no_family_knows_are_refused() -> None:
    spec = KernelSpec("conv", 8, 8, 9, 9, reads=BLOCKED, writes=PLANAR)
    assert all((BLOCKED, PLANAR) not in FAMILIES[name].layouts for name in FAMILIES_OF["conv"])
    with pytest.raises(UnsupportedOperator, match="no kernel family computes"):
        schedule(spec, find_target("x86_avx2"))
    assert set(LAYOUTS) == {BLOCKED, PLANAR}
