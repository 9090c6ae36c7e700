import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compiler import KernelSpec, schedule, structure_of
from compiler.kernels.base import split
from compiler.target import AVX2, AVX512, NEON
from pruning import Sparsity, make_scheme


@given(
    st.sampled_from([62, 64, 94, 96]),
    st.integers(16, 90),
    st.sampled_from([(1, 2), (3, 3)]),
    st.sampled_from(
        [
            "block_kernel(16x1)",
            "block_kernel(32x1)",
            "block_punched(16x1)",
            "block_punched(32x1)",
            "block_punched(16x4)",
            "block_punched(8x4)",
        ]
    ),
    st.sampled_from([2.0, 2.5, 3.0, 5.0]),
)
def test_a_spec_says_what_is_read_off_the_masked_weight(
    filters: int, channels: int, kernel: tuple[int, int], scheme: str, rate: float
) -> None:
    spec = KernelSpec("conv", channels, filters, 8, 8, kernel).with_sparsity(Sparsity(scheme, rate))
    torch.manual_seed(filters * channels)
    weight = torch.randn(spec.weight_shape)
    assert structure_of((weight * make_scheme(scheme).mask(weight, rate)).numpy()) == spec.sparsity


@pytest.mark.parametrize("filters", [16, 33, 70])
@pytest.mark.parametrize(
    ("scheme", "rate"),
    [
        *[("pattern(4)", rate) for rate in (2.25, 3.0, 10.0)],
        *[("pattern(4, share=16)", rate) for rate in (2.25, 3.0, 10.0)],
        *[("pcnn", rate) for rate in (2.25, 9.0)],
        *[("nm(2:4)", 2.0), ("nm(1:4)", 4.0), ("nm(4:8)", 2.0)],
    ],
)
def test_structures_in_cells_are_read_off_the_weight(scheme: str, rate: float, filters: int) -> None:
    spec = KernelSpec("conv", 22, filters, 8, 8, (3, 3)).with_sparsity(Sparsity(scheme, rate))
    weight = torch.randn(spec.weight_shape, generator=torch.Generator().manual_seed(filters))
    found = structure_of((weight * make_scheme(scheme).mask(weight, rate)).numpy())
    assert found == spec.sparsity


def test_a_library_of_patterns_is_seen_as_equal_kernels() -> None:
    weight = torch.randn(20, 10, 3, 3)
    assert structure_of((weight * make_scheme("pcnn(4)").mask(weight, 3)).numpy()) == Sparsity("pcnn", 3)


def test_rows_of_before_layouts_are_read() -> None:
    spec = KernelSpec("conv", 32, 64, 8, 9, (3, 1))
    row = {key: value for key, value in spec.to_dict().items() if key not in ("reads", "writes")}
    assert KernelSpec.from_dict(row) == spec
    planes = KernelSpec("convert", 4, 4, 2, 2, reads="blocked", writes="planar")
    assert KernelSpec.from_dict(planes.to_dict()) == planes


@pytest.mark.parametrize("scheme", ["filter", "channel"])
def test_removed_filters_and_channels_are_recognised(scheme: str) -> None:
    weight = torch.randn(40, 24, 3, 3)
    masked = weight * make_scheme(scheme).mask(weight, 2.5)
    assert structure_of(masked.numpy()).scheme == make_scheme(scheme)


def test_a_full_and_an_empty_weight_are_dense() -> None:
    assert structure_of(torch.ones(4, 4, 3, 3).numpy()) == Sparsity()
    assert structure_of(torch.zeros(4, 4, 3, 3).numpy()) == Sparsity()


def test_round_trip_through_a_table_row() -> None:
    spec = KernelSpec("conv", 32, 64, 8, 9, (3, 1), (2, 1), (1, 0), epilogue=("add", "relu"))
    spec = spec.with_sparsity(Sparsity("block_punched(16x1)", 3))
    assert KernelSpec.from_dict(spec.to_dict()) == spec
    assert KernelSpec.from_dict(KernelSpec("add", 4, 4, 2, 2, epilogue=("add",)).to_dict()).epilogue == ("add",)


@given(st.integers(1, 300), st.integers(1, 30))
def test_split_covers_exactly_with_pieces_that_differ_by_one(size: int, longest: int) -> None:
    length, whole, shorter = split(size, longest)
    assert whole * length + shorter * (length - 1) == size
    assert length <= longest
    assert whole >= 1
    assert whole + shorter == -(-size // longest)


@pytest.mark.parametrize("target", [AVX512, AVX2, NEON], ids=lambda target: target.name)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 60), st.sampled_from([1, 3]))
def test_a_tile_fits_the_registers_and_the_filters(target, channels: int, filters: int, size: int, kernel: int) -> None:
    spec = KernelSpec("conv", channels, filters, size, size, (kernel, kernel), padding=(kernel // 2, kernel // 2))
    chosen = schedule(spec, target)
    sums = chosen.vectors * chosen.rows * chosen.cols
    assert sums <= target.accumulators
    assert sums + chosen.vectors + 1 <= target.registers
    assert -(-filters // target.vector) % chosen.vectors == 0
    assert chosen.cycles > 0


def test_more_zeros_never_cost_more_cycles() -> None:
    base = KernelSpec("conv", 64, 64, 14, 14, (3, 3), padding=(1, 1))
    sparse = [base.with_sparsity(Sparsity("block_punched(16x1)", rate)) for rate in (2.0, 3.0, 5.0, 10.0)]
    cycles = [schedule(spec, AVX512).cycles for spec in (base, *sparse)]
    assert cycles == sorted(cycles, reverse=True)


def test_hash_is_that_of_the_fields_and_is_left_behind_when_a_spec_travels() -> None:
    """Text hashes differently in another process."""
    spec = KernelSpec("conv", 8, 8, 4, 4, sparsity=Sparsity("filter", 2.0))
    assert hash(spec) == hash(replace(spec)) != hash(replace(spec, op="linear"))
    other = pickle.loads(pickle.dumps(spec))
    assert other == spec
    assert "_hash" not in vars(other)
    assert hash(other) == hash(spec)
