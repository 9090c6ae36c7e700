"""The compiler's immutable graph: operators on (channels, height, width) tensors of one image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Shape = tuple[int, int, int]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Op:
    """What a node computes; subclasses carry the parameters."""

    def __str__(self) -> str:
        values = ", ".join(f"{key}={value}" for key, value in vars(self).items())
        return f"{type(self).__name__.lower()}({values})"


@dataclass(frozen=True)
class Conv(Op):
    """Convolution with everything fused behind it. A linear layer is one over its whole input.

    `weight` and `bias` name constants of the graph; with `add` in the epilogue the node's second input is the
    tensor added there.
    """

    weight: str
    bias: str | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    epilogue: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchNorm(Op):
    """y = x * scale + shift a channel, from running statistics."""

    scale: str
    shift: str


@dataclass(frozen=True)
class Activation(Op):
    """Elementwise function; see `kernels.epilogue`."""

    kind: str


@dataclass(frozen=True)
class Add(Op):
    """Sum of two tensors of one shape, with what is fused behind it."""

    epilogue: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale(Op):
    """First input times the second, which has one value a channel (squeeze-and-excitation)."""

    epilogue: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resample(Op):
    """Every `stride`-th pixel, its channels moved up by `before`; channels that nothing is moved to are zero."""

    stride: Pair = (1, 1)
    before: int = 0


@dataclass(frozen=True)
class Pool(Op):
    """Maximum or average over windows; `count_padding` as in torch's `count_include_pad`."""

    kind: str
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    count_padding: bool = True


@dataclass(frozen=True)
class GlobalPool(Op):
    """Average over all pixels."""


@dataclass(frozen=True)
class Relayout(Op):
    """The same tensor in another layout."""


@dataclass(frozen=True)
class Flatten(Op):
    """(C, H, W) to (C * H * W, 1, 1) in torch's order."""


@dataclass(frozen=True)
class Linear(Op):
    """y = W x + b."""

    weight: str
    bias: str | None = None


@dataclass(frozen=True)
class Node:
    """One operator of the graph.

    Attributes:
        name: unique in the graph; also the name of its output tensor.
        op: what is computed.
        inputs: names of tensors.
        shape: (C, H, W) of the output.
        path: module path in the user's network, for messages and tables.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: Shape
    path: str = ""


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order.

    Attributes:
        inputs: shape of each input tensor by name.
        nodes: in an order in which they can run.
        outputs: names of the tensors handed back.
        output_shapes: torch shape of each output without the batch dimension.
        constants: arrays that operators name.
    """

    inputs: Mapping[str, Shape]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    constants: Mapping[str, Array] = field(repr=False)

    def shape_of(self, tensor: str) -> Shape:
        """(C, H, W) of a tensor."""
        return self.inputs[tensor] if tensor in self.inputs else self.node(tensor).shape

    def node(self, name: str) -> Node:
        """The node that produces `name`."""
        return next(node for node in self.nodes if node.name == name)

    def consumers(self) -> dict[str, list[Node]]:
        """Nodes that read each tensor; a node that reads one twice is listed twice."""
        readers: dict[str, list[Node]] = {name: [] for name in (*self.inputs, *(node.name for node in self.nodes))}
        for node in self.nodes:
            for tensor in node.inputs:
                readers[tensor].append(node)
        return readers

    def rewrite(
        self,
        nodes: Iterable[Node],
        renamed: Mapping[str, str] | None = None,
        constants: Mapping[str, Array] | None = None,
    ) -> Graph:
        """A graph with other nodes, in which readers of a renamed tensor read its new name."""
        renamed = renamed or {}

        def final(name: str) -> str:
            while name in renamed:
                name = renamed[name]
            return name

        moved = tuple(replace(node, inputs=tuple(final(name) for name in node.inputs)) for node in nodes)
        outputs = tuple(final(name) for name in self.outputs)
        return replace(self, nodes=moved, outputs=outputs, constants=self.constants if constants is None else constants)

    def dump(self) -> str:
        """The graph as text, a node a line."""
        lines = [f"input {name}: {'x'.join(map(str, shape))}" for name, shape in self.inputs.items()]
        for node in self.nodes:
            size = "x".join(map(str, node.shape))
            lines.append(f"{node.name}: {size} = {node.op} of {', '.join(node.inputs)}  # {node.path}")
        lines += [f"output {name}" for name in self.outputs]
        return "\n".join(lines) + "\n"
