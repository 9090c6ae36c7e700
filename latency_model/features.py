"""What the predictor sees of a kernel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler import KernelSpec, Schedule, Target, schedule
from latency_model.runner import Floats

ENDINGS = {"add": 1.0, "relu": 1.0, "relu6": 3.0, "hard_sigmoid": 5.0, "hard_swish": 6.0}
"""Cycles that a fused function costs a vector of outputs; others compute an exponential or the like."""
LONG_ENDING = 25.0


def shape_features(spec: KernelSpec, target: Target) -> dict[str, float]:
    """What a kernel computes: logarithms of sizes, counts, and what its channels leave of the last vector."""
    height, width = spec.out_size
    return {
        "in_channels": math.log2(spec.in_channels),
        "out_channels": math.log2(spec.out_channels),
        "pixels": math.log2(height * width),
        "width": math.log2(width),
        "input_pixels": math.log2(spec.height * spec.width),
        "kernel": spec.kernel[0] * spec.kernel[1],
        "stride": spec.stride[0] * spec.stride[1],
        "padding": spec.padding[0],
        "rate": math.log2(spec.sparsity.rate),
        "macs_kept": math.log2(1 + spec.macs_kept),
        "weights": math.log2(1 + math.prod(spec.weight_shape) / spec.sparsity.rate),
        "activations": math.log2(spec.in_channels * spec.height * spec.width + spec.out_channels * height * width),
        "filters_left": -spec.out_channels % target.vector / target.vector,
        "channels_left": -spec.in_channels % target.vector / target.vector,
        "residual": "add" in spec.epilogue,
        "fused": len(spec.epilogue),
        "threads": spec.threads,
    }


def schedule_features(spec: KernelSpec, chosen: Schedule, target: Target) -> dict[str, float]:
    """How it is computed: work, tiles, and what they leave, as a share of a tile."""
    height, width = spec.out_size
    filters = chosen.vectors * target.vector
    return {
        "cycles": math.log2(1 + chosen.cycles),
        "bytes": math.log2(1 + chosen.bytes),
        "ending": math.log2(1 + _ending_cycles(spec, target) / (1 + chosen.cycles)),
        "intensity": math.log2((1 + chosen.cycles) / (1 + chosen.bytes)),
        "saved": math.log2((1 + spec.macs_kept) / (1 + chosen.cycles)),
        "entries": math.log2(1 + chosen.entries),
        "entries_left": chosen.entries % 1,
        "tiles": math.log2(math.ceil(height / chosen.rows) * math.ceil(width / chosen.cols)),
        "filter_blocks": math.log2(math.ceil(spec.out_channels / filters)),
        "vectors": chosen.vectors,
        "rows": chosen.rows,
        "cols": chosen.cols,
        "chunk": chosen.chunk,
        "unroll": chosen.unroll,
        "blocks_outside": chosen.blocks_outside,
        "width_left": -width % chosen.cols / chosen.cols,
        "height_left": -height % chosen.rows / chosen.rows,
        "block_left": -spec.out_channels % filters / filters,
    }


def shape_categories(spec: KernelSpec) -> dict[str, str]:
    """Operation, scheme and fused functions."""
    return {"op": spec.op, "scheme": str(spec.sparsity.scheme), "epilogue": "+".join(spec.epilogue)}


def shape_matrix(specs: Sequence[KernelSpec], target: Target) -> Floats:
    """Shape features and indicators of the categories [len(specs), columns], without choosing any schedule."""
    mine = [shape_categories(spec) for spec in specs]
    seen = _pairs(mine)
    numbers = [list(map(float, shape_features(spec, target).values())) for spec in specs]
    return np.array([row + _indicators(own, seen) for row, own in zip(numbers, mine, strict=True)])


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
    def of(cls, specs: Iterable[KernelSpec], target: Target) -> Encoder:
        """The encoder that knows the categories of `specs`."""
        return cls(target, _pairs([_categories(spec, schedule(spec, target)) for spec in specs]))

    def encode(self, specs: Sequence[KernelSpec]) -> Floats:
        """Features [len(specs), columns]."""
        rows = []
        for spec in specs:
            chosen = schedule(spec, self.target)
            shape, tiles = shape_features(spec, self.target), schedule_features(spec, chosen, self.target)
            known = _indicators(_categories(spec, chosen), self.categories)
            rows.append([*map(float, shape.values()), *map(float, tiles.values()), *known])
        return np.array(rows, dtype=np.float64)


def _ending_cycles(spec: KernelSpec, target: Target) -> float:
    """Cycles of what is fused behind the sum, which a schedule's estimate leaves out."""
    vectors = spec.out_channels * math.prod(spec.out_size) / target.vector
    return vectors * sum(ENDINGS.get(part, LONG_ENDING) for part in spec.epilogue)


def work(specs: Sequence[KernelSpec], target: Target) -> Floats:
    """Issue cycles and bytes of each kernel, [len(specs), 2]."""
    chosen = [schedule(spec, target) for spec in specs]
    return np.array([[one.cycles, one.bytes] for one in chosen], dtype=np.float64).reshape(-1, 2)


def _categories(spec: KernelSpec, chosen: Schedule) -> dict[str, str]:
    return {**shape_categories(spec), "family": chosen.family, "form": chosen.form}


def _pairs(categories: Iterable[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({pair for own in categories for pair in own.items()}))


def _indicators(own: Mapping[str, str], known: Iterable[tuple[str, str]]) -> list[float]:
    return [float(own[kind] == value) for kind, value in known]
