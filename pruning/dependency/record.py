"""What is found out while the channels of a network are followed through its operations."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from pruning.dependency.components import components
from pruning.dependency.graph import Graph, describe
from pruning.dependency.values import Value, broadcast, only_zeros, unknown

NETWORK_INPUTS = "the network's inputs"
NETWORK_OUTPUTS = "the network's outputs"

Result = Value | tuple["Result", ...]
"""What an operation gives: a value, or several."""


@dataclass(frozen=True)
class Layer:
    """One call of a layer that adds up weighted inputs.

    `inputs` [groups, I / groups] and `outputs` [groups, O / groups] are ids, `constant` and `made` their constants,
    `reads` bool [groups, O / groups, I / groups] says which slices of the weight are not zero.
    """

    name: str
    tensor: str
    inputs: Tensor
    outputs: Tensor
    constant: Tensor
    made: Tensor
    reads: Tensor

    @property
    def depthwise(self) -> bool:
        """Whether every output has one input of its own, so that the two go together."""
        return len(self.inputs) > 1 and self.inputs.shape[1] == 1


@dataclass(frozen=True)
class Use:
    """One use of a parameter or buffer, seen as [groups, n, m, ...] with groups * n slices along its first axis.

    `axes` holds, for as many of the axes n, m, ... as can lose slices, their ids [groups, n]; None for one that
    cannot. `silent`: entries of a removed unit have to be zero for the unit to be zero.
    """

    tensor: str
    axes: tuple[Tensor | None, ...]
    silent: bool


@dataclass(frozen=True)
class Attribute:
    """A number that a module holds: how many of `ids` there are, divided by `divisor`."""

    module: str
    name: str
    ids: Tensor
    divisor: int = 1


@dataclass(frozen=True)
class Pin:
    """Units that cannot go, and why. `refuses`: they are to be refused even if they have no influence.

    Where `constant` is zero, the operation that pins them does not depend on them.
    """

    ids: Tensor
    constant: Tensor
    reason: str
    refuses: bool
    node: Node | None = None


class Record:
    """The units of a network and what couples them (see `tracing.trace`)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[Node, Result] = {}
        self.layers: list[Layer] = []
        self.uses: list[Use] = []
        self.attributes: list[Attribute] = []
        self.pins: list[Pin] = []
        self.needed: list[tuple[Tensor, Tensor]] = []
        """Ids and constants of values that something not followed any further depends on."""
        self.makers: list[Tensor] = []
        """Ids [n] of what one layer makes."""
        self.bare: dict[str, Value] = {}
        """Parameters and buffers that are used as numbers, every element with an id of its own."""
        self.balances: list[Tensor] = []
        """Ids [blocks, n]: all blocks have to keep equally many."""
        self.counting: list[Node] = []
        """Operations that may hold a number of channels."""
        self.size = 0
        """Number of ids; the numbers of coupled sets are below it."""
        self._edges: list[tuple[Tensor, Tensor]] = []
        self._splits: list[tuple[Tensor, int | None]] = []
        self._rigid: set[int] = set()
        self._sets: Tensor | None = None

    def fresh(self, count: int) -> Tensor:
        """`count` new ids, coupled with nothing."""
        self.size += count
        return torch.arange(self.size - count, self.size)

    def rigid(self, shape: tuple[int, ...], reason: str, constant: Tensor | None = None) -> Value:
        """A new value whose sizes are fixed: what is coupled with it cannot go."""
        ids = self.fresh(1)
        self._rigid.add(int(ids))
        constant = unknown(shape) if constant is None else constant
        self.pins.append(Pin(ids, torch.full((1,), torch.nan), reason, refuses=False))
        return Value(shape, ids.reshape([1] * len(shape)), constant)

    def is_rigid(self, value: Value) -> bool:
        """Whether the value is a single unit of fixed sizes."""
        return value.ids.numel() == 1 and int(value.ids) in self._rigid

    def couple(self, left: Tensor, right: Tensor) -> None:
        """From now on left[i] and right[i] go together; the two are broadcast."""
        left, right = broadcast(left, right)
        different = left != right
        if bool(different.any()):
            self._edges.append((left[different], right[different]))
            self._sets = None

    def fix(self, value: Value, axis: int) -> None:
        """From now on no slice along the axis goes alone: what goes, goes from all slices alike."""
        self.couple(value.ids, value.ids.narrow(axis, 0, 1))

    def line(self, value: Value, axis: int) -> tuple[Tensor, Tensor]:
        """Ids and constants [n] of the slices along the axis, each of which goes as a whole."""
        for other in value.varying:
            if other != axis:
                self.fix(value, other)
        first = _rows(value.ids, axis)[:, 0]
        rows = _rows(value.constant, axis)
        constant = torch.where((rows == rows[:, :1]).all(1), rows[:, 0], torch.nan)
        count = value.shape[axis]
        return first.expand(count), constant.expand(count)

    def along(self, shape: tuple[int, ...], axis: int, ids: Tensor, constant: Tensor) -> Value:
        """A value of this shape whose slices along one axis have these ids and constants [n]."""
        ones = [1] * len(shape)
        ones[axis] = len(ids)
        return Value(shape, ids.reshape(ones), constant.reshape(ones))

    def split(self, ids: Tensor, free: int | None) -> None:
        """A line of ids was laid out as [a, b, ...]: only one of these axes can become shorter.

        `free` is that axis where it is known. Otherwise it is one whose slices are units anyhow, or the innermost.
        """
        self._splits.append((ids, free))

    def use(self, tensor: str, *axes: Tensor | None, silent: bool = False) -> None:
        """Notes a use of a parameter or buffer; several uses of one tensor are coupled."""
        for other in self.uses:
            if other.tensor == tensor:
                self._match(other, axes)
        if tensor in self.bare:
            self._stay(tensor, self.bare[tensor].ids, *axes)
        self.uses.append(Use(tensor, axes, silent))

    def enter(self, tensor: str, constant: Tensor) -> Value:
        """The value of a parameter or buffer that is used as a number, not as the weights of a layer."""
        if tensor not in self.bare:
            ids = self.fresh(constant.numel()).reshape(constant.shape)
            value = Value(tuple(constant.shape), ids, constant)
            for other in self.uses:
                if other.tensor == tensor:
                    self._stay(tensor, ids, *other.axes)
            self.bare[tensor] = value
        return self.bare[tensor]

    def need(self, value: Value) -> None:
        """The value matters wherever it is not zero, though its units end here."""
        ids, constant = broadcast(value.ids, value.constant)
        self.needed.append((ids.flatten(), constant.flatten()))

    def keep(self, value: Value, reason: str) -> None:
        """The value's units stay, and that is no reason to refuse."""
        self._pin(value, reason, refuses=False, node=None)

    def opaque(self, node: Node, why: str, *values: Value) -> None:
        """The values enter an operation that their units cannot be followed through."""
        for value in values:
            if not self.is_rigid(value):
                self._pin(value, f"{describe(node)}, {why}", refuses=True, node=node)

    def settle(self) -> None:
        """Decides, once everything is coupled, which axis of every split can become shorter."""
        for ids, free in self._splits:
            rows = _rows(ids, _loose(self.sets(ids)) if free is None else free)
            self.couple(rows, rows[:, :1])

    def sets(self, ids: Tensor) -> Tensor:
        """The number of the coupled set of every id."""
        if self._sets is None:
            self._sets = components(self.size, self._edges)
        return self._sets[ids]

    def marked(self, groups: Iterable[Tensor]) -> Tensor:
        """Bool [size] that is True at the coupled sets of these ids."""
        marks = torch.zeros(self.size, dtype=torch.bool)
        for ids in groups:
            marks[self.sets(ids)] = True
        return marks

    def _pin(self, value: Value, reason: str, refuses: bool, node: Node | None) -> None:
        ids, constant = broadcast(value.ids, value.constant)
        self.pins.append(Pin(ids.flatten(), only_zeros(constant).flatten(), reason, refuses, node))

    def _match(self, other: Use, axes: tuple[Tensor | None, ...]) -> None:
        for left, right in zip(other.axes, axes, strict=False):
            if left is not None and right is not None and left.shape == right.shape:
                self.couple(left, right)
            else:
                self._stay(other.tensor, left, right)
        for rest in (*other.axes[len(axes) :], *axes[len(other.axes) :]):
            self._stay(other.tensor, rest)

    def _stay(self, tensor: str, *ids: Tensor | None) -> None:
        for axis in ids:
            if axis is not None:
                pin = Pin(
                    axis.flatten(), torch.full((axis.numel(),), torch.nan), f"{tensor} is used in two ways", False
                )
                self.pins.append(pin)


def _rows(tensor: Tensor, axis: int) -> Tensor:
    """The slices along an axis as the rows of a matrix."""
    return tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1)


def _loose(sets: Tensor) -> int:
    """The first axis whose slices are one set each, else the last."""
    rows = (_rows(sets, axis) for axis in range(sets.dim()))
    whole = [axis for axis, slices in enumerate(rows) if bool((slices == slices[:, :1]).all())]
    return whole[0] if whole else sets.dim() - 1
