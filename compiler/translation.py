"""Translation of an exported program, operator by operator, to our graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node as FxNode
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from compiler.arrangement import arrange, arranged_shape, positions
from compiler.errors import InvalidWeights, UnsupportedOperator
from compiler.graph import Array, Constant, Gather, Graph, Indices, Node, Op, Pair, Shape, counts_up

Result = str | tuple[str | None, ...] | None
"""Name of an operator's output tensor, or the names of several, of which some may not be to be had."""
Handler = Callable[["Capture", FxNode], Result]
HANDLERS: dict[str, Handler] = {}
INPUT_TYPES = (torch.float32, torch.int64, torch.int32)
TYPES = (*INPUT_TYPES, torch.float64, torch.bool)
"""What may be computed on the way; double precision is computed in single."""
OF_A_SHAPE = frozenset(f"aten.{name}.default" for name in (
    "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full",
))  # fmt: skip
"""Operators whose result depends on shape and type of their first argument, not on its values."""


def handles(*targets: str) -> Callable[[Handler], Handler]:
    """Register a translation for operators of `torch.export`'s graph."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(targets, handler))
        return handler

    return register


class Capture:
    """One translation in progress: of a program for a batch of one sample.

    Constants are called `state:` and their path if the network holds them, and otherwise by the node that they are of
    and, behind a point, what they are to it: whatever the network's parts are called, no two share a name.

    Attributes:
        mixing: nodes that, by their form, might mix samples of a batch.
    """

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.program = program
        self.nodes: list[Node] = []
        self.inputs: dict[str, Shape] = {}
        self.input_shapes: list[tuple[int, ...]] = []
        self.input_types: list[str] = []
        self.constants: dict[str, Array] = {}
        self.indices: dict[str, Indices] = {}
        self.tensors: dict[FxNode, Result] = {}
        self.known: dict[FxNode, Any] = {}
        self.names: dict[FxNode, str] = {}
        self.mixing: list[FxNode] = []
        self._shapes: dict[str, Shape] = {}
        self._made: Counter[str] = Counter()

    def graph(self) -> Graph:
        """The graph.

        Raises:
            UnsupportedOperator: naming the node, its module and what is supported.
            InvalidWeights: if a weight is NaN or infinite.
        """
        outputs = self._returned()
        needed = _with_sources(outputs)
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._take_placeholder(node)
                self._require_constant(node, needed)
            elif node not in needed:
                continue
            elif self._depends_on_input(node):
                self.tensors[node] = self._handler(node)(self, node)
            else:
                self.known[node] = self._evaluate(node)
        names = tuple(self._output(node) for node in outputs)
        return Graph(
            self.inputs,
            tuple(self.nodes),
            names,
            tuple(_without_batch(node.meta["val"].shape) for node in outputs),
            self.constants,
            tuple(self.input_shapes),
            tuple(self.input_types),
            self.indices,
        )

    def unknown(self) -> list[Any]:
        """Operators without a translation, each once."""
        nodes = [node for node in self.program.graph.nodes if node.op == "call_function"]
        return list({node.target: None for node in nodes if str(node.target) not in HANDLERS})

    def _returned(self) -> list[Any]:
        """What the user is handed back: not the new values of inputs and buffers that are changed in place."""
        results, specs = self.program.graph.output_node().args[0], self.program.graph_signature.output_specs
        assert isinstance(results, (list, tuple))
        return [result for result, spec in zip(results, specs, strict=True) if spec.kind is OutputKind.USER_OUTPUT]

    def _require_constant(self, node: FxNode, needed: set[FxNode]) -> None:
        outputs = self.program.graph_signature.output_specs
        changed = {spec.target for spec in outputs if spec.kind is not OutputKind.USER_INPUT_MUTATION} - {None}
        if self.names.get(node) in changed and node in needed:
            raise UnsupportedOperator(
                f"buffer {self.names[node]} changes with every run, and what the network returns depends on it; a "
                "compiled network remembers nothing: take it as an input and return it"
            )

    def _take_placeholder(self, node: FxNode) -> None:
        signature = self.program.graph_signature
        spec = next(spec for spec in signature.input_specs if getattr(spec.arg, "name", None) == node.name)
        if spec.kind is InputKind.USER_INPUT:
            self._take_input(node)
            return
        name = str(spec.target)
        stored = self.program.state_dict if name in self.program.state_dict else self.program.constants
        self.known[node], self.names[node] = stored[name], name
        if spec.kind is InputKind.PARAMETER:
            _require_finite(stored[name], name)

    def _take_input(self, node: FxNode) -> None:
        value = node.meta["val"]
        if not isinstance(value, Tensor):
            self.known[node] = value
            return
        if value.dtype not in INPUT_TYPES or value.ndim < 1 or 0 in value.shape:
            raise UnsupportedOperator(
                f"input {node.name} is {value.dtype} of shape {tuple(value.shape)}; a compiled network takes "
                "tensors [N, ...] of float32, or of whole numbers (int64, int32)"
            )
        axes = _without_batch(value.shape)
        self.input_shapes.append(axes)
        self.input_types.append(str(value.dtype).removeprefix("torch."))
        handed_over = _in_order(axes)
        self.inputs[node.name] = self._shapes[node.name] = arranged_shape(handed_over)
        given = positions(handed_over).reshape(tuple(value.shape))
        self.tensors[node] = self.move(node, [node.name], arrange(given))

    def _depends_on_input(self, node: FxNode) -> bool:
        return str(node.target) not in OF_A_SHAPE and any(source in self.tensors for source in node.all_input_nodes)

    def _evaluate(self, node: FxNode) -> Any:
        """The value of a node that depends on no input."""
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise self.refusal(node, "its result is random")
        if node.op == "get_attr":
            return attrgetter(str(node.target))(self.program.graph_module)
        with torch.no_grad():
            arguments, keywords = map_arg((node.args, node.kwargs), self._known_or_zeros)
            return node.target(*arguments, **keywords)  # type: ignore[operator]

    def _known_or_zeros(self, node: FxNode) -> Any:
        """The value of a node, of which nothing but shape and type matters if it depends on an input."""
        if node in self.known:
            return self.known[node]
        return torch.zeros(node.meta["val"].shape, dtype=node.meta["val"].dtype)

    def _output(self, node: Any) -> str:
        if isinstance(node, FxNode) and node in self.known and isinstance(self.known[node], Tensor):
            name = self._constant_tensor(node)
            self.mixing.append(node)  # it may have one sample whatever the inputs have
        elif not isinstance(node, FxNode) or not isinstance(self.tensors.get(node), str):
            raise UnsupportedOperator(f"the network returns {node}; a compiled network returns tensors")
        else:
            name = str(self.tensors[node])
        shape = node.meta["val"].shape
        if not node.meta["val"].dtype.is_floating_point:
            raise UnsupportedOperator(f"the network returns {node} of {node.meta['val'].dtype}, not of float32")
        if shape[:1] != (1,):
            self.mixing.append(node)
            return name
        handed_back = positions(shape).reshape(_in_order(_without_batch(shape)))
        return self.move(node, [name], arrange(handed_back))

    def _handler(self, node: FxNode) -> Handler:
        target = str(node.target) if node.op == "call_function" else node.op
        if target not in HANDLERS:
            raise self.refusal(node, f"there is no kernel for {target}")
        for result in tree_leaves(node.meta["val"]):
            if any(isinstance(size, torch.SymInt) for size in result.shape):
                why = "its shape depends on values; where a mask chooses elements, give their numbers"
                raise self.refusal(node, why)
            if result.dtype not in TYPES:
                raise self.refusal(node, f"tensors of {result.dtype} are not supported, only float32")
        return HANDLERS[target]

    def refusal(self, node: FxNode, why: str) -> UnsupportedOperator:
        """The error for a node that cannot be compiled."""
        known = ", ".join(sorted({name.split(".")[1] for name in HANDLERS if name.startswith("aten.")}))
        return UnsupportedOperator(
            f"cannot compile {node.name} in module {path_of(node) or '(top level)'}: {why}. Supported: {known}"
        )

    def is_known(self, value: Any) -> bool:
        """Whether an argument is a number, or a tensor that depends on no input."""
        return not isinstance(value, FxNode) or value in self.known

    def tensor(self, node: FxNode, index: int) -> str:
        """Name of the tensor that is argument `index`."""
        value = argument(node, index)
        return self.name_of(node, value)

    def name_of(self, node: FxNode, value: Any) -> str:
        """Name of the tensor that a node of the program stands for."""
        if isinstance(value, FxNode) and isinstance(self.known.get(value), Tensor):
            return self._constant_tensor(value)
        name = self.tensors.get(value)
        if not isinstance(name, str):
            raise self.refusal(node, f"what it reads, {value}, is not supported")
        return name

    def _constant_tensor(self, node: FxNode) -> str:
        value = self.known[node]
        return self.store(
            node, Constant(self.keep(node, arrange(value).to(torch.float32))), arranged_shape(value.shape)
        )

    def constant(self, node: FxNode, index: int) -> str | None:
        """Name of the constant that is argument `index`, None if absent.

        Raises:
            InvalidWeights: if it is not finite.
        """
        value = argument(node, index)
        if value is None:
            return None
        if not isinstance(value, FxNode) or not isinstance(self.known.get(value), Tensor):
            raise self.refusal(node, f"argument {index} is computed from the input; it has to be a parameter or buffer")
        _require_finite(self.known[value], self.names.get(value, value.name))
        name = f"state:{self.names[value]}" if value in self.names else f"{value.name}.value"
        if name not in self.constants:
            self.constants[name] = to_array(self.known[value])
        return name

    def required(self, node: FxNode, index: int) -> str:
        """Name of the constant that is argument `index`, which must be there."""
        name = self.constant(node, index)
        if name is None:
            raise self.refusal(node, f"argument {index} is missing")
        return name

    def keep(self, node: FxNode, value: Tensor) -> str:
        """Name of a constant made for `node`."""
        name = f"{node.name}.constant{len(self.constants)}"
        self.constants[name] = to_array(value)
        return name

    def add(self, node: FxNode, op: Op, *inputs: str) -> str:
        """Append a node whose output lies as torch's result of `node` does; returns its tensor's name."""
        value = node.meta["val"]
        shape = value[0].shape if isinstance(value, (tuple, list)) else value.shape
        return self.store(node, op, arranged_shape(tuple(shape)), *inputs)

    def store(self, node: FxNode, op: Op, shape: Shape, *inputs: str) -> str:
        """Append a node with an output of any shape; returns its tensor's name."""
        made = self._made[node.name]
        name = f"{node.name}/{made}" if made or node.name in self.inputs else node.name
        self._made[node.name] += 1
        self._shapes[name] = shape
        self.nodes.append(Node(name, op, inputs, shape, path_of(node)))
        return name

    def move(self, node: FxNode, sources: Sequence[str], index: Tensor, fill: float = 0.0) -> str:
        """A tensor of the elements at `index` [C, H, W] of the sources; the source itself if that is the same."""
        chosen = index.round().to(torch.int32).numpy()
        shape = (int(chosen.shape[0]), int(chosen.shape[1]), int(chosen.shape[2]))
        if len(sources) == 1 and self.shape_of(sources[0]) == shape and counts_up(chosen):
            return sources[0]
        name = f"{node.name}.index{len(self.indices)}"
        self.indices[name] = np.ascontiguousarray(chosen)
        return self.store(node, Gather(name, fill), shape, *sources)

    def take(self, node: FxNode, index: int, select: Callable[[Tensor], Tensor]) -> str:
        """Argument `index` in another arrangement: `select` makes [C, H, W] of a tensor of the argument's shape."""
        value = argument(node, index)
        return self.move(node, [self.tensor(node, index)], select(positions(value.meta["val"].shape)))

    def give(self, node: FxNode, tensor: str, natural: Callable[[Tensor], Tensor] | None = None) -> str:
        """The result of `node`, a tensor of its shape made by `natural` (a reshape) of what was computed [C, H, W]."""
        channels, height, width = self.shape_of(tensor)
        computed = torch.arange(channels * height * width).reshape(channels, height, width)
        shape = shape_of(node)
        found = computed.reshape(shape) if natural is None else natural(computed).reshape(shape)
        return self.move(node, [tensor], arrange(found))

    def shape_of(self, tensor: str) -> Shape:
        """(C, H, W) of a tensor."""
        return self._shapes[tensor]


def argument(node: FxNode, index: int, default: Any = None) -> Any:
    """Positional argument `index` of an operator, by position or keyword."""
    if index < len(node.args):
        return node.args[index]
    schema = getattr(node.target, "_schema", None)
    if schema is None or index >= len(schema.arguments):
        return default
    declared = schema.arguments[index]
    value = node.kwargs.get(declared.name, declared.default_value)
    return default if value is None else value


def shape_of(node: FxNode) -> tuple[int, ...]:
    """Torch shape of a node's result, the first one if there are several."""
    value = node.meta["val"]
    return tuple((value[0] if isinstance(value, (tuple, list)) else value).shape)


def path_of(node: FxNode) -> str:
    """Module path of a node in the user's network."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values()]
    return str(paths[-1]) if paths else ""


def pair(value: Any) -> Pair:
    """(vertical, horizontal) of one number or two."""
    values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
    return (values[0], values[-1])


def to_array(value: Tensor) -> Array:
    """A tensor as a float32 array of its own."""
    return np.ascontiguousarray(value.detach().to("cpu", torch.float32).numpy())


def _with_sources(outputs: Sequence[Any]) -> set[FxNode]:
    """The nodes among `outputs`, and those that they are computed from."""
    found: set[FxNode] = set()
    waiting = [node for node in outputs if isinstance(node, FxNode)]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _without_batch(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(size) for size in shape[1:])


def _in_order(axes: tuple[int, ...]) -> tuple[int, ...]:
    """A torch shape of one sample whose arrangement leaves the elements in the order in which the user has them."""
    return (1, 1, *axes) if len(axes) == 2 else (1, *axes)


def _require_finite(value: Tensor, name: str) -> None:
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise InvalidWeights(
            f"{name} holds {int((~torch.isfinite(value)).sum())} values that are NaN or infinite; "
            "load a sound checkpoint before compiling"
        )
