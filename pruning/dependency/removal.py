"""Takes units out of a model's tensors."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.dependency.record import Record
from pruning.errors import ShrinkRefused


@dataclass(frozen=True)
class Cut:
    """What stays of one parameter or buffer, seen as [groups, n, m, ...]: a bool mask [groups, n] for each of its
    first axes, None where all stays."""

    tensor: str
    kept: tuple[Tensor | None, ...]

    def apply(self, model: nn.Module) -> None:
        """Slices the tensor in place; a parameter stays the same object, its gradient is dropped."""
        module, _, attribute = self.tensor.rpartition(".")
        tensor: Tensor = getattr(model.get_submodule(module), attribute)
        groups = max(len(kept) for kept in self.kept if kept is not None)
        parts = tensor.data.reshape(groups, -1, *tensor.shape[1:])
        for axis, kept in enumerate(self.kept):
            if kept is not None:
                parts = torch.stack(
                    [part.index_select(axis, _indices(rows, part)) for part, rows in zip(parts, kept, strict=True)]
                )
        tensor.data = parts.flatten(0, 1)
        tensor.grad = None


@dataclass(frozen=True)
class Number:
    """A count that a module holds, such as `out_channels`."""

    module: str
    name: str
    value: int

    def apply(self, model: nn.Module) -> None:
        """Sets it."""
        setattr(model.get_submodule(self.module), self.name, self.value)


@dataclass(frozen=True)
class Removal:
    """All that becomes smaller."""

    cuts: tuple[Cut, ...]
    numbers: tuple[Number, ...]

    def apply(self, model: nn.Module) -> None:
        """Makes `model` smaller, in place."""
        for cut in self.cuts:
            cut.apply(model)
        for number in self.numbers:
            number.apply(model)


def removal(record: Record, removed: Tensor) -> Removal:
    """What the coupled sets (bool [record.size]) that go take with them."""
    cuts: dict[str, Cut] = {}
    for use in record.uses:
        kept = tuple(None if ids is None else ~removed[record.sets(ids)] for ids in use.axes)
        if any(axis is not None and not axis.all() for axis in kept):
            cuts[use.tensor] = Cut(use.tensor, kept)
    for tensor, value in record.bare.items():
        gone = removed[record.sets(value.ids)]
        if gone.any():
            cuts[tensor] = Cut(tensor, _slices(tensor, gone))
    numbers: dict[tuple[str, str], Number] = {}
    for attribute in record.attributes:
        left = ~removed[record.sets(attribute.ids)]
        if not left.all():
            count = int(left.sum()) // attribute.divisor
            numbers[attribute.module, attribute.name] = Number(attribute.module, attribute.name, count)
    return Removal(tuple(cuts.values()), tuple(numbers.values()))


def _slices(tensor: str, gone: Tensor) -> tuple[Tensor | None, ...]:
    """Masks [1, n] of the slices that stay along the one axis that becomes shorter."""
    for axis in range(gone.dim()):
        rows = gone.movedim(axis, 0).flatten(1)
        if bool((rows == rows[:, :1]).all()):
            return (*[None] * axis, ~rows[None, :, 0])
    raise ShrinkRefused(f"the entries of {tensor!r} that could go are not whole slices of it. The model is unchanged.")


def _indices(kept: Tensor, tensor: Tensor) -> Tensor:
    return kept.nonzero()[:, 0].to(tensor.device)
