"""What the predictor sees of a kernel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from operator import attrgetter

import numpy as np

from compiler import KernelSpec, Schedule, Target, schedule
from compiler.spec import CONVOLUTIONS
from compiler.target import SSE
from latency_model.extent import Mask, cases, ends
from latency_model.runner import Floats
from pruning import Scheme

Columns = dict[str, Floats]
"""A number a kernel, by feature."""
Categories = dict[str, list[str]]
"""A value a kernel, by kind."""

ENDINGS = {"add": 1.0, "relu": 1.0, "relu6": 3.0, "hard_sigmoid": 5.0, "hard_swish": 6.0}
"""Cycles that a fused function costs a vector of outputs; others compute an exponential or the like."""
LONG_ENDING = 25.0


@dataclass(frozen=True)
class Sizes:
    """What the features of kernels are made of, a number a kernel each [kernels].

    Attributes:
        inputs, outputs: channels.
        height, width: of the output.
        kernel: positions of the kernel.
        weights: number of weights when nothing is pruned.
        rate: weights / weights kept.
        macs_kept: multiply-accumulates that the kept weights need.
    """

    inputs: Floats
    outputs: Floats
    height: Floats
    width: Floats
    kernel: Floats
    weights: Floats
    rate: Floats
    macs_kept: Floats

    @classmethod
    def of(cls, specs: Sequence[KernelSpec]) -> Sizes:
        """The sizes of `specs`."""
        inputs, outputs, rate = (_each(specs, name) for name in ("in_channels", "out_channels", "sparsity.rate"))
        (height, width), kernel = _both(specs, "out_size"), _both(specs, "kernel").prod(axis=0)
        has_any = _numbers(spec.op in CONVOLUTIONS for spec in specs)
        weights = has_any * outputs * (inputs // _each(specs, "groups") * kernel)
        return cls(inputs, outputs, height, width, kernel, weights, rate, weights * (height * width) / rate)


def shape_features(specs: Sequence[KernelSpec], sizes: Sizes, target: Target) -> Columns:
    """What kernels compute: logarithms of sizes, counts, and what their channels leave of the last vector."""
    inputs, outputs, pixels = sizes.inputs, sizes.outputs, sizes.height * sizes.width
    input_pixels = _each(specs, "height") * _each(specs, "width")
    return {
        "in_channels": _log2(inputs),
        "out_channels": _log2(outputs),
        "pixels": _log2(pixels),
        "width": _log2(sizes.width),
        "input_pixels": _log2(input_pixels),
        "kernel": sizes.kernel,
        "stride": _both(specs, "stride").prod(axis=0),
        "padding": _both(specs, "padding")[0],
        "rate": _log2(sizes.rate),
        "macs_kept": _log2(1 + sizes.macs_kept),
        "weights": _log2(1 + np.maximum(sizes.weights, 1) / sizes.rate),
        "activations": _log2(inputs * input_pixels + outputs * pixels),
        "filters_left": -outputs % target.vector / target.vector,
        "channels_left": -inputs % target.vector / target.vector,
        "residual": _numbers("add" in spec.epilogue for spec in specs),
        "fused": _numbers(len(spec.epilogue) for spec in specs),
        "threads": _each(specs, "threads"),
    }


def schedule_features(specs: Sequence[KernelSpec], sizes: Sizes, chosen: Sequence[Schedule], target: Target) -> Columns:
    """How they are computed: work, tiles, and what these leave, as a share of a tile."""
    outputs, height, width = sizes.outputs, sizes.height, sizes.width
    vectors, rows, cols = _each(chosen, "vectors"), _each(chosen, "rows"), _each(chosen, "cols")
    cycles, traffic, entries = _each(chosen, "cycles"), _each(chosen, "bytes"), _each(chosen, "entries")
    endings = _numbers(_ending_cycles(spec.epilogue) for spec in specs)
    ending = outputs * (height * width) / target.vector * endings
    filters = vectors * target.vector
    return {
        "cycles": _log2(1 + cycles),
        "bytes": _log2(1 + traffic),
        "ending": _log2(1 + ending / (1 + cycles)),
        "intensity": _log2((1 + cycles) / (1 + traffic)),
        "saved": _log2((1 + sizes.macs_kept) / (1 + cycles)),
        "entries": _log2(1 + entries),
        "entries_left": entries % 1,
        "tiles": _log2(np.ceil(height / rows) * np.ceil(width / cols)),
        "filter_blocks": _log2(np.ceil(outputs / filters)),
        "vectors": vectors,
        "rows": rows,
        "cols": cols,
        "chunk": _each(chosen, "chunk"),
        "unroll": _each(chosen, "unroll"),
        "blocks_outside": _each(chosen, "blocks_outside"),
        "width_left": -width % cols / cols,
        "height_left": -height % rows / rows,
        "block_left": -outputs % filters / filters,
    }


def shape_categories(specs: Sequence[KernelSpec]) -> Categories:
    """Operation, scheme and fused functions."""
    return {
        "op": [spec.op for spec in specs],
        "scheme": [_name(spec.sparsity.scheme) for spec in specs],
        "epilogue": ["+".join(spec.epilogue) for spec in specs],
    }


def shape_matrix(specs: Sequence[KernelSpec], target: Target) -> Floats:
    """Shape features and indicators of the categories [len(specs), columns], without choosing any schedule."""
    categories = shape_categories(specs)
    return _matrix(shape_features(specs, Sizes.of(specs), target), categories, _pairs(categories))


EXTENTS = ("in_channels", "out_channels", "pixels", "kernel", "stride", "rate", "macs_kept")
"""Shape features by which a kernel may be larger or smaller than any that was seen."""


@dataclass(frozen=True)
class Encoder:
    """Turns kernels into rows of numbers: their features, and one column a known category.

    Attributes:
        target: what the kernels are compiled for.
        categories: (kind, value) pairs that were seen when the encoder was made.
    """

    target: Target
    categories: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, specs: Sequence[KernelSpec], target: Target) -> Encoder:
        """The encoder that knows the categories of `specs`."""
        return cls(target, _pairs(_categories(specs, schedules(specs, target))))

    def encode(self, specs: Sequence[KernelSpec], chosen: Sequence[Schedule]) -> Floats:
        """Features [len(specs), columns] of kernels and of the schedules that were chosen for them."""
        sizes = Sizes.of(specs)
        shapes = shape_features(specs, sizes, self.target)
        columns = shapes | schedule_features(specs, sizes, chosen, self.target)
        return _matrix(columns, _categories(specs, chosen), self.categories)

    def shapes(self, features: Floats) -> Floats:
        """Of what `encode` gave, the columns of shapes and categories, and how many categories of a kernel are known.

        These say what a kernel computes, and how far it is from what was seen, rather than how it is computed.
        """
        known = features[:, features.shape[1] - len(self.categories) :]
        return np.column_stack([features[:, : len(SHAPES)], known, known.sum(axis=1)])

    def varied(self, features: Floats) -> Iterator[Mask]:
        """Kernels that have something in common [rows of `features`, as `encode` gave them]: the largest and the
        smallest by each of `EXTENTS`, and those of each scheme."""
        for name in EXTENTS:
            yield from ends(features[:, SHAPES.index(name)])
        known = features[:, features.shape[1] - len(self.categories) :].T
        for (kind, _), column in zip(self.categories, known, strict=True):
            if kind == "scheme":
                yield from cases(column)


def schedules(specs: Iterable[KernelSpec], target: Target) -> list[Schedule]:
    """How each kernel is computed."""
    return [schedule(spec, target) for spec in specs]


def work(chosen: Sequence[Schedule]) -> Floats:
    """Issue cycles and bytes of kernels by their schedules [len(chosen), 2]."""
    return np.array([[one.cycles, one.bytes] for one in chosen], dtype=np.float64).reshape(-1, 2)


def _each(items: Sequence[object], name: str) -> Floats:
    """An attribute of each item [items]."""
    return np.fromiter(map(attrgetter(name), items), np.float64, len(items))


def _both(items: Sequence[object], name: str) -> Floats:
    """An attribute of each item that is a pair of numbers [2, items]."""
    both = chain.from_iterable(map(attrgetter(name), items))
    return np.fromiter(both, np.float64, 2 * len(items)).reshape(-1, 2).T


def _numbers(values: Iterable[float]) -> Floats:
    return np.fromiter(values, np.float64)


def _log2(numbers: Floats) -> Floats:
    """To the same bits on every processor, which numpy's own does not promise."""
    return np.fromiter(map(math.log2, numbers.tolist()), np.float64, len(numbers))


@cache
def _name(scheme: Scheme) -> str:
    return str(scheme)


@cache
def _ending_cycles(epilogue: tuple[str, ...]) -> float:
    """Cycles of what is fused behind the sum a vector of outputs, which a schedule's estimate leaves out."""
    return sum(ENDINGS.get(part, LONG_ENDING) for part in epilogue)


def _categories(specs: Sequence[KernelSpec], chosen: Sequence[Schedule]) -> Categories:
    tiles = {"family": [one.family for one in chosen], "form": [one.form for one in chosen]}
    return shape_categories(specs) | tiles


def _pairs(categories: Categories) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({(kind, value) for kind, values in categories.items() for value in values}))


def _matrix(columns: Columns, categories: Categories, known: Sequence[tuple[str, str]]) -> Floats:
    """The columns, and one column of ones and zeros a known category [rows, columns]."""
    values = {kind: np.array(of_kind, dtype=np.str_) for kind, of_kind in categories.items()}
    return np.column_stack([*columns.values(), *(values[kind] == value for kind, value in known)])


SHAPES = tuple(shape_features([], Sizes.of([]), SSE))
"""Names of the shape features, which are the same for every target."""
