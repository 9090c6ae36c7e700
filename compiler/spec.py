"""`KernelSpec`: all that determines a kernel's code and time, and no weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

from compiler.layout import BLOCKED
from pruning import Sparsity

CONVOLUTIONS = frozenset({"conv", "depthwise", "linear"})


@dataclass(frozen=True)
class KernelSpec:
    """One generated function at batch 1.

    Attributes:
        op: `conv`, `depthwise`, `linear`, `max_pool`, `add`, ... (see `spec_of`), or one of those that the compiler
            adds: `pack` (from the user's NCHW), `unpack` (to it) and `convert` (from layout to layout).
        in_channels, out_channels: channels read and written.
        height, width: spatial size of the input.
        kernel, stride, padding, dilation: (vertical, horizontal).
        groups: convolution groups; equals `in_channels` when depthwise.
        epilogue: what is fused behind the sum, in order: activations and `add` (residual).
        sparsity: of the weights, at the *effective* rate groups / kept groups (see `with_sparsity`).
        threads: number of threads that share the work.
        dtype: element type.
        reads, writes: layout of the input and of the output, `blocked` or `planar`; a residual lies like the output.
            What the user hands over or is handed back is NCHW whatever they say.
        out: height and width of the output where they do not follow from the rest.
    """

    op: str
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    epilogue: tuple[str, ...] = ()
    sparsity: Sparsity = field(default_factory=Sparsity)
    threads: int = 1
    dtype: str = "float32"
    reads: str = BLOCKED
    writes: str = BLOCKED
    out: tuple[int, int] = (0, 0)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Specs are looked up all the time, so that it is worked out once."""
        return hash(_values_of(self))

    def __getstate__(self) -> dict[str, Any]:
        """Without the hash, which another process works out for itself: text is hashed in a way of its own there."""
        return {key: value for key, value in vars(self).items() if key != "_hash"}

    @cached_property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        if self.op == "global_pool":
            return 1, 1
        if self.out != (0, 0):
            return self.out
        size = (self.height, self.width)
        out = [
            (size[a] + 2 * self.padding[a] - self.dilation[a] * (self.kernel[a] - 1) - 1) // self.stride[a] + 1
            for a in (0, 1)
        ]
        return out[0], out[1]

    @cached_property
    def weight_shape(self) -> tuple[int, ...]:
        """[O, I, kh, kw], a linear layer being a 1x1 convolution; empty for kernels without weights."""
        if self.op in CONVOLUTIONS:
            return (self.out_channels, self.in_channels // self.groups, *self.kernel)
        return ()

    @property
    def macs_dense(self) -> int:
        """Multiply-accumulates when nothing is pruned."""
        return math.prod(self.weight_shape) * math.prod(self.out_size) if self.weight_shape else 0

    @property
    def macs_kept(self) -> float:
        """Multiply-accumulates that the kept weights need."""
        return self.macs_dense / self.sparsity.rate

    def with_sparsity(self, sparsity: Sparsity) -> KernelSpec:
        """The same kernel under `sparsity`, at the rate that is really reached.

        A layer keeps a whole number of groups, so that a nominal rate of 2.5 is seldom met exactly. The spec
        carries groups / kept groups, which is also what `structure_of` reads off a masked weight.
        """
        sparsity = sparsity.canonical()
        if sparsity.rate == 1:
            return replace(self, sparsity=Sparsity())
        groups = sparsity.scheme.group_count(self.weight_shape)
        kept = sparsity.scheme.kept_groups(self.weight_shape, sparsity.rate)
        return replace(self, sparsity=Sparsity(sparsity.scheme, groups / kept).canonical())

    def named(self, op: str) -> KernelSpec:
        """The same shapes under another operation."""
        return replace(self, op=op)

    def to_dict(self) -> dict[str, Any]:
        """Flat form, one column a field, for tables and JSON."""
        return {
            "op": self.op,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "height": self.height,
            "width": self.width,
            "kernel_h": self.kernel[0],
            "kernel_w": self.kernel[1],
            "stride_h": self.stride[0],
            "stride_w": self.stride[1],
            "padding_h": self.padding[0],
            "padding_w": self.padding[1],
            "dilation_h": self.dilation[0],
            "dilation_w": self.dilation[1],
            "groups": self.groups,
            "epilogue": "+".join(self.epilogue),
            "scheme": str(self.sparsity.scheme),
            "rate": self.sparsity.rate,
            "threads": self.threads,
            "dtype": self.dtype,
            "reads": self.reads,
            "writes": self.writes,
            "out_h": self.out[0],
            "out_w": self.out[1],
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> KernelSpec:
        """Inverse of `to_dict`; further keys are ignored."""
        return cls(
            op=str(row["op"]),
            in_channels=int(row["in_channels"]),
            out_channels=int(row["out_channels"]),
            height=int(row["height"]),
            width=int(row["width"]),
            kernel=(int(row["kernel_h"]), int(row["kernel_w"])),
            stride=(int(row["stride_h"]), int(row["stride_w"])),
            padding=(int(row["padding_h"]), int(row["padding_w"])),
            dilation=(int(row["dilation_h"]), int(row["dilation_w"])),
            groups=int(row["groups"]),
            epilogue=tuple(part for part in str(row["epilogue"]).split("+") if part),
            sparsity=Sparsity(str(row["scheme"]), float(row["rate"])),
            threads=int(row["threads"]),
            dtype=str(row["dtype"]),
            reads=str(row.get("reads", BLOCKED)),
            writes=str(row.get("writes", BLOCKED)),
            out=(int(row.get("out_h", 0)), int(row.get("out_w", 0))),
        )


_values_of = attrgetter(*(one.name for one in fields(KernelSpec)))
