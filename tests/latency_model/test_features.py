from __future__ import annotations

import math

import numpy as np
import pytest

from compiler import KernelSpec, schedule
from compiler.target import AVX512
from latency_model.features import Encoder, schedules, shape_matrix, work
from latency_model.inventory import common_kernels

SPECS = [*common_kernels(120, seed=3), KernelSpec("convert", 20, 20, 9, 7, reads="blocked", writes="planar")]
CHOSEN = schedules(SPECS, AVX512)
ENCODER = Encoder.of(SPECS[::2], AVX512)
ENDINGS = {"add": 1.0, "relu": 1.0, "relu6": 3.0, "hard_swish": 6.0, "silu": 25.0}


def shape_row(spec: KernelSpec) -> list[float]:
    """One kernel by itself, in whole numbers as far as they go."""
    (height, width), rate = spec.out_size, spec.sparsity.rate
    return [
        math.log2(spec.in_channels),
        math.log2(spec.out_channels),
        math.log2(height * width),
        math.log2(width),
        math.log2(spec.height * spec.width),
        spec.kernel[0] * spec.kernel[1],
        spec.stride[0] * spec.stride[1],
        spec.padding[0],
        math.log2(rate),
        math.log2(1 + spec.macs_kept),
        math.log2(1 + math.prod(spec.weight_shape) / rate),
        math.log2(spec.in_channels * spec.height * spec.width + spec.out_channels * height * width),
        -spec.out_channels % 16 / 16,
        -spec.in_channels % 16 / 16,
        "add" in spec.epilogue,
        len(spec.epilogue),
        spec.threads,
    ]


def schedule_row(spec: KernelSpec) -> list[float]:
    chosen, (height, width) = schedule(spec, AVX512), spec.out_size
    filters = chosen.vectors * 16
    ending = spec.out_channels * height * width / 16 * sum(ENDINGS[part] for part in spec.epilogue)
    return [
        math.log2(1 + chosen.cycles),
        math.log2(1 + chosen.bytes),
        math.log2(1 + ending / (1 + chosen.cycles)),
        math.log2((1 + chosen.cycles) / (1 + chosen.bytes)),
        math.log2((1 + spec.macs_kept) / (1 + chosen.cycles)),
        math.log2(1 + chosen.entries),
        chosen.entries % 1,
        math.log2(math.ceil(height / chosen.rows) * math.ceil(width / chosen.cols)),
        math.log2(math.ceil(spec.out_channels / filters)),
        chosen.vectors,
        chosen.rows,
        chosen.cols,
        chosen.chunk,
        chosen.unroll,
        chosen.blocks_outside,
        -width % chosen.cols / chosen.cols,
        -height % chosen.rows / chosen.rows,
        -spec.out_channels % filters / filters,
    ]


def test_numbers_are_those_of_each_kernel_by_itself_bit_for_bit() -> None:
    found = ENCODER.encode(SPECS, CHOSEN)
    expected = np.array([[*shape_row(spec), *schedule_row(spec)] for spec in SPECS], dtype=np.float64)
    np.testing.assert_array_equal(found[:, : expected.shape[1]], expected)
    np.testing.assert_array_equal(shape_matrix(SPECS, AVX512)[:, :17], expected[:, :17])


def test_a_column_of_ones_and_zeros_a_known_category() -> None:
    found = ENCODER.encode(SPECS, CHOSEN)[:, -len(ENCODER.categories) :]
    for row, spec, chosen in zip(found, SPECS, CHOSEN, strict=True):
        own = {
            ("op", spec.op),
            ("scheme", str(spec.sparsity.scheme)),
            ("epilogue", "+".join(spec.epilogue)),
            ("family", chosen.family),
            ("form", chosen.form),
        }
        assert row.tolist() == [pair in own for pair in ENCODER.categories]
    assert ENCODER.categories == tuple(sorted(set(ENCODER.categories)))


def test_a_category_that_is_not_known_has_no_column() -> None:
    ops = [kind == "op" for kind, _ in ENCODER.categories]
    strange = ENCODER.encode([KernelSpec("unheard_of", 8, 8, 4, 4)], CHOSEN[:1])
    assert not strange[0, -len(ENCODER.categories) :][ops].any()


@pytest.mark.parametrize("count", [0, 1, 5])
def test_any_number_of_kernels(count: int) -> None:
    assert ENCODER.encode(SPECS[:count], CHOSEN[:count]).shape == (count, 35 + len(ENCODER.categories))
    np.testing.assert_array_equal(
        work(CHOSEN[:count]), np.array([[c.cycles, c.bytes] for c in CHOSEN[:count]]).reshape(-1, 2)
    )
