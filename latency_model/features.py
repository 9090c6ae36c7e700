"""What the predictor sees of a kernel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

import numpy as np

from compiler import KernelSpec, Schedule, Target, schedule
from compiler.spec import CONVOLUTIONS
from latency_model.runner import Floats

Columns = dict[str, Floats]
"""A number a kernel, by feature."""
Categories = dict[str, list[str]]
"""A value a kernel, by kind."""

ENDINGS = {"add": 1.0, "relu": 1.0, "relu6": 3.0, "hard_sigmoid": 5.0, "hard_swish": 6.0}
"""Cycles that a fused function costs a vector of outputs; others compute an exponential or the like."""
LONG_ENDING = 25.0


def shape_features(specs: Sequence[KernelSpec], target: Target) -> Columns:
    """What kernels compute: logarithms of sizes, counts, and what their channels leave of the last vector."""
    inputs, outputs = _each(specs, "in_channels"), _each(specs, "out_channels")
    (height, width), kernel = _both(specs, "out_size"), _both(specs, "kernel").prod(axis=0)
    input_pixels, rate = _each(specs, "height") * _each(specs, "width"), _each(specs, "sparsity.rate")
    weights = _weights(specs)
    return {
        "in_channels": _log2(inputs),
        "out_channels": _log2(outputs),
        "pixels": _log2(height * width),
        "width": _log2(width),
        "input_pixels": _log2(input_pixels),
        "kernel": kernel,
        "stride": _both(specs, "stride").prod(axis=0),
        "padding": _both(specs, "padding")[0],
        "rate": _log2(rate),
        "macs_kept": _log2(1 + weights * (height * width) / rate),
        "weights": _log2(1 + np.maximum(weights, 1) / rate),
        "activations": _log2(inputs * input_pixels + outputs * height * width),
        "filters_left": -outputs % target.vector / target.vector,
        "channels_left": -inputs % target.vector / target.vector,
        "residual": _numbers("add" in spec.epilogue for spec in specs),
        "fused": _numbers(len(spec.epilogue) for spec in specs),
        "threads": _each(specs, "threads"),
    }


def schedule_features(specs: Sequence[KernelSpec], chosen: Sequence[Schedule], target: Target) -> Columns:
    """How they are computed: work, tiles, and what these leave, as a share of a tile."""
    outputs, (height, width) = _each(specs, "out_channels"), _both(specs, "out_size")
    vectors, rows, cols = _each(chosen, "vectors"), _each(chosen, "rows"), _each(chosen, "cols")
    cycles, traffic, entries = _each(chosen, "cycles"), _each(chosen, "bytes"), _each(chosen, "entries")
    macs_kept = _weights(specs) * (height * width) / _each(specs, "sparsity.rate")
    endings = {epilogue: _ending_cycles(epilogue) for epilogue in {spec.epilogue for spec in specs}}
    ending = outputs * (height * width) / target.vector * _numbers(endings[spec.epilogue] for spec in specs)
    filters = vectors * target.vector
    return {
        "cycles": _log2(1 + cycles),
        "bytes": _log2(1 + traffic),
        "ending": _log2(1 + ending / (1 + cycles)),
        "intensity": _log2((1 + cycles) / (1 + traffic)),
        "saved": _log2((1 + macs_kept) / (1 + cycles)),
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
    schemes = {scheme: str(scheme) for scheme in {spec.sparsity.scheme for spec in specs}}
    return {
        "op": [spec.op for spec in specs],
        "scheme": [schemes[spec.sparsity.scheme] for spec in specs],
        "epilogue": ["+".join(spec.epilogue) for spec in specs],
    }


def shape_matrix(specs: Sequence[KernelSpec], target: Target) -> Floats:
    """Shape features and indicators of the categories [len(specs), columns], without choosing any schedule."""
    categories = shape_categories(specs)
    return _matrix(shape_features(specs, target), categories, _pairs(categories))


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
        columns = shape_features(specs, self.target) | schedule_features(specs, chosen, self.target)
        return _matrix(columns, _categories(specs, chosen), self.categories)


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


def _weights(specs: Sequence[KernelSpec]) -> Floats:
    """Weights that a kernel has when nothing is pruned."""
    each_output = _each(specs, "in_channels") // _each(specs, "groups") * _both(specs, "kernel").prod(axis=0)
    has_any = _numbers(spec.op in CONVOLUTIONS for spec in specs)
    result: Floats = has_any * _each(specs, "out_channels") * each_output
    return result


def _log2(numbers: Floats) -> Floats:
    """To the same bits on every processor, which numpy's own does not promise."""
    return np.fromiter(map(math.log2, numbers.tolist()), np.float64, len(numbers))


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
