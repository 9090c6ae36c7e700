"""What is known about one value of a network: the unit that every element belongs to, and whether it is constant."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Value:
    """A tensor of `shape` in which every element carries the id of the unit that it goes with.

    `ids` int64 and `constant` float64 have the rank of `shape` and size 1 along axes where they are the same
    everywhere. `constant` is what an element holds whatever the input is, NaN if that depends on the input.
    """

    shape: tuple[int, ...]
    ids: Tensor
    constant: Tensor

    @classmethod
    def of(cls, ids: Tensor, constant: Tensor) -> "Value":
        """A value from tensors of its full shape."""
        return cls(tuple(ids.shape), _compact(ids), _compact(constant))

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def varies(self, axis: int) -> bool:
        """Whether slices along the axis belong to different units."""
        return self.ids.shape[axis] > 1

    @property
    def varying(self) -> tuple[int, ...]:
        """The axes along which units differ."""
        return tuple(axis for axis in range(self.rank) if self.varies(axis))

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Value":
        """The value after an operation that only moves elements."""
        return Value.of(move(self.ids.expand(self.shape)), move(self.constant.expand(self.shape)))


def _compact(tensor: Tensor) -> Tensor:
    """The tensor with size 1 along axes that only repeat."""
    if tensor.numel() == 0:
        return tensor
    for axis in sorted(range(tensor.dim()), key=tensor.stride):
        first = tensor.narrow(axis, 0, 1)
        if tensor.shape[axis] > 1 and (tensor.stride(axis) == 0 or _same(tensor, first)):
            tensor = first
    return tensor


def _same(tensor: Tensor, other: Tensor) -> bool:
    equal = tensor == other
    if tensor.is_floating_point():
        equal |= tensor.isnan() & other.isnan()
    return bool(equal.all())


def broadcast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, expanded to one shape."""
    return tuple(torch.broadcast_tensors(*tensors))  # type: ignore[no-untyped-call]


def unknown(shape: tuple[int, ...]) -> Tensor:
    """Constants of a value of this shape about which nothing is known."""
    return torch.full([1] * len(shape), torch.nan, dtype=torch.float64)


def only_zeros(constant: Tensor) -> Tensor:
    """What is left of constants after an operation that keeps zeros and may round the rest."""
    return torch.where(constant == 0, 0.0, torch.nan)
