import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import KernelSpec, schedule, structure_of
from compiler.graph import Array
from compiler.kernels.base import split
from compiler.kernels.products import kept_share, pack_entries
from compiler.structure import exact_structure
from compiler.target import AVX2, AVX512, NEON
from pruning import Sparsity, make_scheme


@given(
    st.sampled_from([62, 64, 94, 96, 250]),
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
    assert structure_of(pruned(spec, filters * channels)) == spec.sparsity


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


@settings(deadline=None)
@given(
    st.integers(128, 256),
    st.integers(80, 128),
    st.sampled_from([(1, 1), (3, 3)]),
    st.sampled_from(["block_punched(16x1)", "block_punched(32x1)", "block_kernel(16x1)", "block_kernel(32x1)"]),
    st.sampled_from([3.0, 5.0, 8.0]),
    st.floats(0.02, 0.3),
    st.integers(0, 99),
)
def test_blocks_that_lost_filters_and_channels_are_described_as_kernels_find_them(
    filters: int,
    channels: int,
    kernel: tuple[int, int],
    scheme: str,
    rate: float,
    gone: float,
    seed: int,
) -> None:
    spec = KernelSpec("conv", channels, filters, 8, 8, kernel).with_sparsity(Sparsity(scheme, rate))
    generator = np.random.default_rng(seed)
    stays = [generator.random(size) > gone for size in (filters, channels)]
    left = pruned(spec, seed)[stays[0]][:, stays[1]]
    found = structure_of(left)
    assert found.scheme.name == ("block_punched" if kernel == (1, 1) else make_scheme(scheme).name)
    assert found.rate == pytest.approx(left.size / np.count_nonzero(left), rel=0.1)
    for run, deep in itertools.product((8, 16, 32), (1, 2, 4)):
        assert packed_share(left, run, deep) == pytest.approx(expected_share(left, run, deep), rel=0.4)


def test_blocks_of_several_channels_that_lost_some_are_described_as_kernels_find_them() -> None:
    spec = KernelSpec("conv", 200, 200, 8, 8, (3, 3)).with_sparsity(Sparsity("block_punched(16x4)", 5.0))
    stays = np.random.default_rng(0).random(200) > 0.05
    left = pruned(spec, 0)[stays][:, stays]
    assert packed_share(left, 1, 4) < 2 / 5  # single weights would leave more than half of the entries
    for run, deep in itertools.product((1, 8, 16, 32), (1, 2, 4)):
        assert packed_share(left, run, deep) == pytest.approx(expected_share(left, run, deep), rel=0.25)


def packed_share(weight: Array, filters: int, channels: int) -> float:
    """Share of entries of filters x channels that are packed."""
    return len(pack_entries(weight, filters, channels, False)[1]) / len(
        pack_entries(weight, filters, channels, True)[1]
    )


def expected_share(weight: Array, filters: int, channels: int) -> float:
    """What is expected of it by the weight's structure alone."""
    spec = KernelSpec(
        "conv", weight.shape[1], len(weight), 8, 8, (weight.shape[2], weight.shape[3]), sparsity=structure_of(weight)
    )
    return kept_share(spec, filters, channels)


@given(
    st.integers(20, 200),
    st.integers(20, 90),
    st.sampled_from([(1, 1), (3, 3), (1, 5)]),
    st.sampled_from([1.5, 2.0, 5.0, 10.0]),
    st.integers(0, 99),
)
def test_single_weights_are_no_blocks(
    filters: int, channels: int, kernel: tuple[int, int], rate: float, seed: int
) -> None:
    spec = KernelSpec("conv", channels, filters, 8, 8, kernel).with_sparsity(Sparsity("unstructured", rate))
    assert structure_of(pruned(spec, seed)) == spec.sparsity


@pytest.mark.parametrize(
    "scheme", ["block_punched(12x1)", "block_punched(12x2)", "block_kernel(6x1)", "block_kernel(1x1)"]
)
def test_regular_blocks_of_other_sizes_are_read_off_exactly(scheme: str) -> None:
    spec = KernelSpec("conv", 45, 127, 8, 8, (3, 3)).with_sparsity(Sparsity(scheme, 5.0))
    assert structure_of(pruned(spec, 0)) == spec.sparsity


@pytest.mark.parametrize(("filters", "height"), [(10, 16), (15, 16), (16, 16), (20, 32), (31, 32)])
def test_a_block_need_not_be_whole(filters: int, height: int) -> None:
    """Kernels would otherwise be expected to meet two blocks where there is one."""
    one = KernelSpec("conv", 64, 1, 8, 8, (3, 3)).with_sparsity(Sparsity("unstructured", 4.0))
    assert structure_of(np.repeat(pruned(one, 0), filters, 0)) == Sparsity(f"block_punched({height}x1)", 4.0)


@pytest.mark.parametrize("scheme", ["block_punched(16x1)", "block_kernel(16x1)"])
def test_blocks_with_a_zero_more_are_like_blocks_but_not_exactly(scheme: str) -> None:
    spec = KernelSpec("conv", 64, 64, 8, 8, (3, 3)).with_sparsity(Sparsity(scheme, 5.0))
    weight = pruned(spec, 0)
    assert exact_structure(weight) == spec.sparsity
    weight[tuple(np.argwhere(weight)[0])] = 0
    assert str(exact_structure(weight).scheme) == "unstructured"
    assert structure_of(weight).scheme == spec.sparsity.scheme


def pruned(spec: KernelSpec, seed: int) -> Array:
    """A random weight of the spec's shape and sparsity, nothing else of it zero."""
    weight = 0.1 + torch.rand(spec.weight_shape, generator=torch.Generator().manual_seed(seed))
    return (weight * spec.sparsity.scheme.mask(weight, spec.sparsity.rate)).numpy()


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
