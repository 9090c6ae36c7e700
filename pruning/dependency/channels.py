"""What is known about the channels of a network: which belong together, who makes and who reads them."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import Node

from pruning.dependency.graph import Graph


@dataclass(frozen=True)
class Channels:
    """Axis 1 of a value: `ids` int64 [C] names every channel; `constant` float64 [C] is what the channel holds at
    every position and for every input, NaN if that depends on the input."""

    ids: Tensor
    constant: Tensor


@dataclass(frozen=True)
class Layer:
    """One call of a convolution or linear layer. `reads` bool [O, I / groups]: which slices W[o, c] are not zero."""

    name: str
    inputs: Channels
    outputs: Channels
    reads: Tensor
    groups: int

    @property
    def depthwise(self) -> bool:
        """Whether every output has one input of its own, so that the two go together."""
        return self.groups > 1 and self.reads.shape[1] == 1


@dataclass(frozen=True)
class Norm:
    """One call of a batch norm."""

    name: str
    ids: Tensor


@dataclass(frozen=True)
class Opaque:
    """An operation that channels cannot be followed through: what enters it and, if it has an axis 1, what leaves."""

    node: Node
    read: tuple[Channels, ...]
    made: Channels | None

    @property
    def ids(self) -> Tensor:
        """All ids that it touches."""
        touched = (*self.read, self.made) if self.made is not None else self.read
        return torch.cat([torch.zeros(0, dtype=torch.int64), *(channels.ids for channels in touched)])


class Trace:
    """The channels of a network after all its operations were followed (see `tracing.trace`)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[Node, Channels] = {}
        self.layers: list[Layer] = []
        self.norms: list[Norm] = []
        self.network_inputs: list[Tensor] = []
        """Ids of what the network is given."""
        self.network_outputs: list[Tensor] = []
        """Ids of what the network returns."""
        self.opaque: list[Opaque] = []
        self._parents: list[int] = []
        self._of_module: dict[str, tuple[Tensor, Tensor]] = {}

    def fresh(self, count: int) -> Tensor:
        """`count` new ids, coupled with nothing."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def couple(self, left: Tensor, right: Tensor) -> None:
        """From now on left[i] and right[i] go together."""
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            self._parents[self._root(a)] = self._root(b)

    def add_layer(self, name: str, module: nn.Conv2d | nn.Linear, inputs: Channels) -> Channels:
        """One more call of a layer; all calls of a module share its weight, so their channels are coupled."""
        weight = module.weight.detach().cpu()
        reads = (weight != 0).flatten(2).any(2) if weight.dim() > 2 else weight != 0
        groups = module.groups if isinstance(module, nn.Conv2d) else 1
        first_inputs, ids = self._of_module.setdefault(name, (inputs.ids, self.fresh(len(weight))))
        self.couple(first_inputs, inputs.ids)
        live = (inputs.constant != 0).reshape(groups, 1, -1)
        depends = (reads.reshape(groups, -1, reads.shape[1]) & live).any(2).flatten()
        offset = torch.zeros(len(weight)) if module.bias is None else module.bias.detach().cpu()
        outputs = Channels(ids, torch.where(depends, torch.nan, offset.double()))
        layer = Layer(name, inputs, outputs, reads, groups)
        if layer.depthwise:
            self.couple(ids, inputs.ids.repeat_interleave(len(weight) // groups))
        self.layers.append(layer)
        return outputs

    @property
    def size(self) -> int:
        """Number of ids; the numbers of coupled sets are below it."""
        return len(self._parents)

    def sets(self, ids: Tensor) -> Tensor:
        """The number of the coupled set of every id."""
        return torch.tensor([self._root(i) for i in ids.tolist()], dtype=torch.int64)

    def marked(self, groups: Iterable[Tensor]) -> Tensor:
        """Bool [size] that is True at the coupled sets of these ids."""
        marks = torch.zeros(self.size, dtype=torch.bool)
        for ids in groups:
            marks[self.sets(ids)] = True
        return marks

    def _root(self, i: int) -> int:
        while self._parents[i] != i:
            self._parents[i] = self._parents[self._parents[i]]
            i = self._parents[i]
        return i
