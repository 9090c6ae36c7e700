"""Kernels of convolutional networks at large: what to time when the networks to come are not known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler import KernelSpec
from pruning import Sparsity

SIZES = (1, 4, 7, 8, 14, 16, 28, 32, 56, 112, 224)
MOST_MACS = 250_000_000
MOST_FLOATS = 1_000_000
SCHEMES = (
    "unstructured",
    *("block_punched(8x4)", "block_punched(16x1)", "block_punched(32x1)", "block_punched(16x4)"),
    *("block_kernel(16x1)", "block_kernel(32x1)"),
)
RAGGED = tuple(f"block_punched({rows}x1)" for rows in (3, 6, 12, 24, 48))
"""What blocks of filters are once single filters have gone from them."""
RAGGED_SHARE = 0.25
"""Share of the pruned convolutions that have such blocks."""
RATES = (2.0, 3.0, 5.0, 7.0, 10.0)
ACTIVATIONS = ((), ("relu",), ("relu6",), ("hard_swish",), ("silu",), ("add",), ("add", "relu"))
UNALIGNED = 0.2
"""Share of kernels whose widths are no multiples of 8."""

Draw = Callable[[np.random.Generator], KernelSpec]


def common_kernels(count: int, seed: int = 0) -> tuple[KernelSpec, ...]:
    """`count` different kernels: widths log-uniform from 8 to 2048, image sizes and operations as networks have them.

    Half of the convolutions are pruned. None works on more than 250 million multiply-accumulates or a million floats.
    """
    generator = np.random.default_rng(seed)
    found: dict[KernelSpec, None] = {}
    while len(found) < count:
        draw = _DRAWS[int(generator.choice(len(_DRAWS), p=_SHARES))]
        spec = draw(generator)
        if _is_moderate(spec):
            found[spec] = None
    return tuple(found)


def _is_moderate(spec: KernelSpec) -> bool:
    floats = spec.in_channels * spec.height * spec.width
    return min(spec.out_size) > 0 and spec.macs_dense <= MOST_MACS and floats <= MOST_FLOATS


def _width(generator: np.random.Generator, least: int = 8, most: int = 2048) -> int:
    width = float(np.exp(generator.uniform(np.log(least), np.log(most))))
    return round(width) if generator.random() < UNALIGNED else max(8, 8 * round(width / 8))


def _size(generator: np.random.Generator, least: int = 4) -> int:
    return int(generator.choice([size for size in SIZES if size >= least]))


def _epilogue(generator: np.random.Generator) -> tuple[str, ...]:
    return ACTIVATIONS[int(generator.integers(len(ACTIVATIONS)))]


def _convolution(kernel: int, stride: int) -> Draw:
    def draw(generator: np.random.Generator) -> KernelSpec:
        size = _size(generator)
        spec = KernelSpec(
            "conv",
            _width(generator),
            _width(generator),
            size,
            size,
            (kernel, kernel),
            (stride, stride),
            (kernel // 2, kernel // 2),
            epilogue=_epilogue(generator),
        )
        if generator.random() < 0.5:
            return spec
        regular = SCHEMES if kernel > 1 else SCHEMES[:5]
        scheme = str(generator.choice(RAGGED if generator.random() < RAGGED_SHARE else regular))
        return spec.with_sparsity(Sparsity(scheme, float(generator.choice(RATES))))

    return draw


def _first(generator: np.random.Generator) -> KernelSpec:
    kernel, size = ((3, 32), (3, 224), (7, 224))[int(generator.integers(3))]
    stride = 1 if size == 32 else 2
    padding = (kernel // 2, kernel // 2)
    width = _width(generator, 8, 64)
    return KernelSpec("conv", 3, width, size, size, (kernel, kernel), (stride, stride), padding, epilogue=("relu",))


def _depthwise(generator: np.random.Generator) -> KernelSpec:
    width, size, kernel, stride = (
        _width(generator),
        _size(generator),
        int(generator.choice([3, 5])),
        int(generator.integers(1, 3)),
    )
    padding, epilogue = (kernel // 2, kernel // 2), _epilogue(generator)
    shape = (width, width, size, size, (kernel, kernel), (stride, stride), padding)
    return KernelSpec("depthwise", *shape, groups=width, epilogue=epilogue)


def _linear(generator: np.random.Generator) -> KernelSpec:
    outputs = int(generator.choice([10, 100, 1000, _width(generator)]))
    return KernelSpec("linear", _width(generator, 32), outputs, 1, 1)


def _window(generator: np.random.Generator) -> KernelSpec:
    width, size, kernel = _width(generator, 16, 512), _size(generator, 7), int(generator.integers(2, 4))
    op = str(generator.choice(["max_pool", "avg_pool"]))
    return KernelSpec(op, width, width, size, size, (kernel, kernel), (2, 2), (kernel // 2, kernel // 2))


def _plain(generator: np.random.Generator) -> KernelSpec:
    op = str(generator.choice(["global_pool", "add", "unpack", "pack"]))
    width = 3 if op == "pack" else _width(generator)
    size = 1 if op == "unpack" else _size(generator, 32 if op == "pack" else 4)
    return KernelSpec(op, width, width, size, size, epilogue=("add",) if op == "add" else ())


_DRAWS = (
    *(_convolution(3, 1), _convolution(1, 1), _convolution(3, 2), _convolution(1, 2)),
    *(_first, _depthwise, _linear, _window, _plain),
)
_SHARES = (0.28, 0.3, 0.07, 0.04, 0.02, 0.15, 0.05, 0.04, 0.05)
