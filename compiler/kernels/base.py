"""What every kernel family provides, and the registry that finds them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from compiler.graph import Array
from compiler.layout import Buffer
from compiler.spec import KernelSpec
from compiler.target import Target

ALIGNMENT = 64


@dataclass(frozen=True)
class Schedule:
    """How a kernel walks through its work.

    Attributes:
        form: `dense`, `sparse` or the family's name.
        vectors: vector registers of filters, or of channels, in a tile.
        rows, cols: output pixels in a tile.
        unroll: consecutive input channels that share one index.
        blocks_outside: filter blocks are the outer loop, because the weights exceed the cache.
        entries: expected kept (channel, position) entries of one filter block, `unroll` channels each.
        cycles: analytic estimate of the time at the issue limit of the core.
        bytes: bytes of weights, input, residual and output touched once.
        why: the reason for the choice, in words.
    """

    form: str
    vectors: int = 1
    rows: int = 1
    cols: int = 1
    unroll: int = 1
    blocks_outside: bool = False
    entries: float = 0.0
    cycles: float = 0.0
    bytes: float = 0.0
    why: str = ""

    @property
    def tile(self) -> str:
        """The tile as text: vectors x rows x columns, and channels an index."""
        return f"{self.vectors}v {self.rows}x{self.cols} u{self.unroll}"


@dataclass(frozen=True)
class Code:
    """One C function `void name(x, y, r, constants, dims)` and the text that defines it."""

    name: str
    source: str


@dataclass(frozen=True)
class Operands:
    """Buffers and weights of one use of a kernel.

    Attributes:
        x, y: input and output.
        r: second input (residual), if any.
        weight: [O, I, kh, kw], empty for kernels without weights.
        bias: [O].
    """

    x: Buffer
    y: Buffer
    r: Buffer | None = None
    weight: Array = field(default_factory=lambda: np.empty(0, np.float32))
    bias: Array = field(default_factory=lambda: np.empty(0, np.float32))


class Family(ABC):
    """A kind of kernel, generated from one description."""

    @abstractmethod
    def schedule(self, spec: KernelSpec, target: Target) -> Schedule:
        """The schedule for `spec`; depends on nothing else."""

    @abstractmethod
    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        """The function; shapes that do not change its text are read from `dims` instead."""

    @abstractmethod
    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        """`dims` as 32-bit integers, and the constants: weights and indices."""


FAMILIES: dict[str, Family] = {}


def register(family: Family, *ops: str) -> None:
    """Let `family` generate the kernels of the given operations."""
    FAMILIES.update(dict.fromkeys(ops, family))


def schedule(spec: KernelSpec, target: Target) -> Schedule:
    """How `spec` is computed on `target`."""
    return FAMILIES[spec.op].schedule(spec, target)


def activation_bytes(spec: KernelSpec) -> float:
    """Bytes of input, residual and output."""
    out = math.prod(spec.out_size)
    floats = spec.in_channels * spec.height * spec.width + spec.out_channels * out * (1 + ("add" in spec.epilogue))
    return 4.0 * floats


def split(size: int, longest: int) -> tuple[int, int, int]:
    """Cut `size` into the fewest pieces of at most `longest`, as equal as can be.

    Returns:
        (length, pieces of that length, pieces one shorter).
    """
    pieces = -(-size // longest)
    length = -(-size // pieces)
    shorter = pieces * length - size
    return length, pieces - shorter, shorter


def pack_sections(*sections: Array | np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> tuple[list[int], bytes]:
    """Concatenate arrays at aligned offsets; returns the byte offsets and the bytes."""
    offsets, blob = [], bytearray()
    for section in sections:
        offsets.append(len(blob))
        blob += np.ascontiguousarray(section).tobytes()
        blob += bytes(-len(blob) % ALIGNMENT)
    return offsets, bytes(blob)


def prelude(names: Sequence[str]) -> str:
    """C declarations that give the entries of `d` their names."""
    return "".join(f"  const long {name} = d[{index}];\n" for index, name in enumerate(names))
