"""What every kernel family provides, and the registry that finds them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from compiler.graph import Array, Indices, Op
from compiler.layout import BLOCKED, Buffer
from compiler.spec import KernelSpec
from compiler.target import Target

ALIGNMENT = 64
EVEN_ROWS = 8
"""So many rows a thread are dealt out evenly enough, to within an eighth."""
MEETING_CYCLES = 700.0
"""Threads that shared a kernel wait for each other."""


@dataclass(frozen=True)
class Schedule:
    """How a kernel walks through its work.

    Attributes:
        family: which family generates the kernel.
        form: `dense` if zeros are computed like other weights, `sparse` if they are skipped.
        vectors: vector registers of filters, of channels or, where `filters` is set, of pixels in a tile.
        rows, cols: output pixels in a tile.
        filters: filters in a tile whose vectors run along pixels.
        chunk: what is worked on together, if not all: Winograd tiles that are transformed, multiplied and transformed
            back, or input channels that are summed up before the next ones.
        group: filter blocks whose Winograd products are taken plane by plane before any is transformed back.
        unroll: consecutive input channels that share one index.
        blocks_outside: filter blocks are the outer loop, because the weights exceed the cache.
        entries: expected kept (channel, position) entries of one filter block, `unroll` channels each.
        pieces: at least so many independent pieces of equal work can be shared among threads; 1 if it is one whole.
        blocks_shared: threads share blocks of channels or filters; otherwise rows or tiles of pixels, so that each
            finds what it reads in its own cache, where it has written it.
        cycles: analytic estimate of the time, on the threads of the spec, at the issue limit of the core.
        bytes: bytes of weights, input, residual and output touched once.
        why: the reason for the choice, in words.
    """

    family: str
    form: str = "dense"
    vectors: int = 1
    rows: int = 1
    cols: int = 1
    filters: int = 0
    chunk: int = 0
    group: int = 1
    unroll: int = 1
    blocks_outside: bool = False
    entries: float = 0.0
    pieces: int = 1
    blocks_shared: bool = False
    cycles: float = 0.0
    bytes: float = 0.0
    why: str = ""

    @property
    def tile(self) -> str:
        """The tile as text: filters, vectors, rows x columns, channels an index, tiles or channels a chunk, group."""
        filters, chunk = f"{self.filters}f " if self.filters else "", f" c{self.chunk}" if self.chunk else ""
        group = f" g{self.group}" if self.group > 1 else ""
        return f"{filters}{self.vectors}v {self.rows}x{self.cols} u{self.unroll}{chunk}{group}"


@dataclass(frozen=True)
class Code:
    """One C function `void name(x, y, r, constants, dims, scratch, part, parts)`.

    It computes part `part` of `parts`: whole sums only, so that the result does not depend on the number of parts.

    Attributes:
        name: of the function; two functions of one name have the same text.
        source: the text that defines it.
        shared: definitions that it needs, and that other functions may need too.
    """

    name: str
    source: str
    shared: str = ""


@dataclass(frozen=True)
class Operands:
    """Buffers and weights of one use of a kernel.

    Attributes:
        x, y: input and output.
        r: second input (residual), if any.
        weight: [O, I, kh, kw], empty for kernels without weights.
        bias: [O].
        op: what is computed, where the spec does not say it all.
        arrays: other constants, in the order in which the operator's fields name them.
        index: where each element of `y` comes from; see `graph.Gather`.
        first: position of `x`'s first element in `index`.
    """

    x: Buffer
    y: Buffer
    r: Buffer | None = None
    weight: Array = field(default_factory=lambda: np.empty(0, np.float32))
    bias: Array = field(default_factory=lambda: np.empty(0, np.float32))
    op: Op | None = None
    arrays: tuple[Array, ...] = ()
    index: Indices = field(default_factory=lambda: np.empty(0, np.int32))
    first: int = 0


class Family(ABC):
    """A kind of kernel, generated from one description.

    `layouts` are the pairs (of the input, of the output and the residual) that it can compute. `clears_columns` says
    that it writes zeros between the rows of an output in planes, as its readers expect.
    """

    layouts: ClassVar[frozenset[tuple[str, str]]] = frozenset({(BLOCKED, BLOCKED)})
    clears_columns: ClassVar[bool] = False

    @abstractmethod
    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        """All schedules worth considering for `spec` on its threads, none if the family cannot compute it."""

    @abstractmethod
    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        """The function; shapes that do not change its text are read from `dims` instead."""

    @abstractmethod
    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        """`dims` as 32-bit integers, and the constants: weights and indices."""

    def scratch(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> int:
        """Bytes of working memory that each thread of the kernel needs while it runs."""
        return 0

    def order_of_sums(self, schedule: Schedule) -> tuple[object, ...]:
        """What decides in which order a sum is added up: where this is equal, results have the same bits."""
        return schedule.form, schedule.unroll


FAMILIES: dict[str, Family] = {}
FAMILIES_OF: defaultdict[str, list[str]] = defaultdict(list)


def register(name: str, family: Family, *ops: str) -> None:
    """Let `family` compete for the kernels of the given operations."""
    FAMILIES[name] = family
    for op in ops:
        FAMILIES_OF[op].append(name)


def signature(name: str) -> str:
    """C declaration of a kernel."""
    arguments = "const float *x, float *y, const float *r, const char *c, const int32_t *d, char *s"
    return f"void {name}({arguments}, long part, long parts)"


def few_rows(height: int, threads: int) -> bool:
    """Whether rows cannot be dealt out about evenly, so that blocks of channels have to be shared too."""
    return height % threads > 0 and height < EVEN_ROWS * threads


def share(cycles: float, pieces: int, threads: int) -> float:
    """Cycles of the thread that gets most when `pieces` of equal work, `cycles` in all, are dealt out."""
    return cycles if threads == 1 else cycles * -(-pieces // threads) / pieces + MEETING_CYCLES


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
