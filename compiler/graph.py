"""The compiler's immutable graph: operators on (channels, height, width) tensors of one sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]
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
    """Elementwise function, its parameters in parentheses; see `kernels.functions`."""

    kind: str


@dataclass(frozen=True)
class Constant(Op):
    """A tensor that depends on no input."""

    value: str


@dataclass(frozen=True)
class Gather(Op):
    """Movement of data: every element of the output is one of the inputs', or `fill`.

    `index` names positions [C, H, W] in the inputs, each flattened, one behind the other; -1 is `fill`. All of
    reshape, permute, slice, concatenate, pad and shuffle is this.
    """

    index: str
    fill: float = 0.0


@dataclass(frozen=True)
class Add(Op):
    """Sum of two tensors of one shape, with what is fused behind it."""

    epilogue: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arithmetic(Op):
    """Elementwise `kind` of two tensors of one shape: a key of `kernels.elementwise.OPERATORS`."""

    kind: str
    epilogue: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale(Op):
    """First input times the second, which has one value a channel (squeeze-and-excitation)."""

    epilogue: tuple[str, ...] = ()


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
class TablePool(Op):
    """Maximum or average over windows of any position and size.

    `rows` and `cols` give (first, pixels, step) of the window of every output row and column. An average divides by
    the product of the row's and the column's entry of `row_counts` and `col_counts`.
    """

    kind: str
    rows: tuple[tuple[int, int, int], ...]
    cols: tuple[tuple[int, int, int], ...]
    row_counts: tuple[float, ...]
    col_counts: tuple[float, ...]


@dataclass(frozen=True)
class Resize(Op):
    """Interpolation along rows, then columns: `rows` [H', H] and `cols` [W', W] name matrices with few non-zeros."""

    rows: str
    cols: str


@dataclass(frozen=True)
class Reduce(Op):
    """`sum`, `mean`, `max` or `min` along each row: (C, H, W) to (C, H, 1)."""

    kind: str


@dataclass(frozen=True)
class Softmax(Op):
    """Along each row; its logarithm if `log`. If `masked`, a row of nothing but -inf gives zeros instead of NaN."""

    log: bool = False
    masked: bool = False


@dataclass(frozen=True)
class Normalise(Op):
    """y = (x - mean) / sqrt(variance + eps) * scale + shift, the latter two a value a channel.

    Statistics are those of each pixel over its channels if `groups` is 0 (layer norm), of each group of channels over
    all pixels otherwise. `centred` is false where the mean is taken to be zero (root mean square norm).
    """

    scale: str
    shift: str
    eps: float
    groups: int = 0
    centred: bool = True


@dataclass(frozen=True)
class MatMul(Op):
    """Product of (B, M, K) and (B, K, N), or (B, N, K) if `transposed`, times `factor`."""

    factor: float = 1.0
    transposed: bool = False


@dataclass(frozen=True)
class Embedding(Op):
    """Row `weight[i]` [V, D] for each of (T, 1, 1) numbers i: (D, 1, T). Numbers that name no row give NaN."""

    weight: str


@dataclass(frozen=True)
class Recurrent(Op):
    """A recurrent layer over the columns of what its gates receive from the input, (gates * padded, 1, T).

    Gates follow torch's order; each has `padded` rows, of which `hidden` are used. `weight` [gates, hidden, hidden]
    and `bias` [gates, hidden] are those of the state, which starts as `state` [hidden] (and the cell as `cell`). The
    output (hidden, 1, T), or (hidden, 1, T + 1) with the last cell of an `lstm`, holds the state after each step.
    """

    kind: str
    weight: str
    bias: str
    state: str
    cell: str
    hidden: int
    padded: int


GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}
"""Gates of each kind of recurrent layer."""


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
        input_shapes: torch shape of each input without the batch dimension; by default that of the tensor.
        input_types: type of each input's elements; whole numbers are handed over as floats.
        indices: positions that operators name.
    """

    inputs: Mapping[str, Shape]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    constants: Mapping[str, Array] = field(repr=False)
    input_shapes: tuple[tuple[int, ...], ...] = ()
    input_types: tuple[str, ...] = ()
    indices: Mapping[str, Indices] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.input_shapes:
            object.__setattr__(self, "input_shapes", tuple(self.inputs.values()))
        if not self.input_types:
            object.__setattr__(self, "input_types", ("float32",) * len(self.inputs))

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
        indices: Mapping[str, Indices] | None = None,
    ) -> Graph:
        """A graph with other nodes, in which readers of a renamed tensor read its new name."""
        renamed = renamed or {}

        def final(name: str) -> str:
            while name in renamed:
                name = renamed[name]
            return name

        moved = tuple(replace(node, inputs=tuple(final(name) for name in node.inputs)) for node in nodes)
        outputs = tuple(final(name) for name in self.outputs)
        return replace(
            self,
            nodes=moved,
            outputs=outputs,
            constants=self.constants if constants is None else constants,
            indices=self.indices if indices is None else indices,
        )

    def dump(self) -> str:
        """The graph as text, a node a line."""
        lines = [f"input {name}: {'x'.join(map(str, shape))}" for name, shape in self.inputs.items()]
        for node in self.nodes:
            size = "x".join(map(str, node.shape))
            lines.append(f"{node.name}: {size} = {node.op} of {', '.join(node.inputs)}  # {node.path}")
        lines += [f"output {name}" for name in self.outputs]
        return "\n".join(lines) + "\n"


def counts_up(index: Indices) -> bool:
    """Whether a movement by `index` leaves the order of all elements of its inputs as it is."""
    return bool((index.reshape(-1) == np.arange(index.size)).all())
