"""Translation of an exported program, operator by operator, to our graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind
from torch.fx import Node as FxNode

from compiler.errors import InvalidWeights, UnsupportedOperator
from compiler.graph import Array, Graph, Node, Op, Pair, Shape

Handler = Callable[["Capture", FxNode], str]
HANDLERS: dict[str, Handler] = {}


def handles(*targets: str) -> Callable[[Handler], Handler]:
    """Register a translation for operators of `torch.export`'s graph."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(targets, handler))
        return handler

    return register


class Capture:
    """One translation in progress."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.program = program
        self.nodes: list[Node] = []
        self.inputs: dict[str, Shape] = {}
        self.constants: dict[str, Array] = {}
        self.tensors: dict[FxNode, str] = {}
        self.parameters: dict[FxNode, str] = {}
        self.batch = 0

    def graph(self) -> Graph:
        signature = self.program.graph_signature
        stored = {**self.program.state_dict, **self.program.constants}
        kinds = {spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")}
        outputs: list[FxNode] = []
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                spec = kinds[node.name]
                if spec.kind is InputKind.USER_INPUT:
                    self._take_input(node)
                else:
                    self._take_constant(node, str(spec.target), stored[str(spec.target)])
            elif node.op == "output":
                outputs = [value for value in node.args[0] if isinstance(value, FxNode)]
            else:
                self.tensors[node] = self._handler(node)(self, node)
        names = tuple(self._output_name(node) for node in outputs)
        shapes = tuple(tuple(node.meta["val"].shape[1:]) for node in outputs)
        return Graph(self.inputs, tuple(self.nodes), names, shapes, self.constants)

    def _take_input(self, node: FxNode) -> None:
        value = node.meta["val"]
        if value.dtype != torch.float32 or value.ndim not in (2, 4):
            raise UnsupportedOperator(
                f"input {node.name} is {value.dtype} of shape {tuple(value.shape)}; "
                "a compiled network takes float32 of shape [N, C, H, W] or [N, F]"
            )
        self.batch = int(value.shape[0])
        self.inputs[node.name] = shape3(tuple(value.shape[1:]))
        self.tensors[node] = node.name

    def _take_constant(self, node: FxNode, name: str, value: Any) -> None:
        if value.is_floating_point():
            array = np.ascontiguousarray(value.detach().to("cpu", torch.float32).numpy())
            if not np.isfinite(array).all():
                raise InvalidWeights(
                    f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are NaN or infinite; "
                    "load a sound checkpoint before compiling"
                )
            self.constants[name] = array
        self.parameters[node] = name

    def _output_name(self, node: FxNode) -> str:
        if node not in self.tensors:
            raise UnsupportedOperator(f"the network returns {node.name}, which is not computed from its inputs")
        return self.tensors[node]

    def _handler(self, node: FxNode) -> Handler:
        target = str(node.target) if node.op == "call_function" else node.op
        if target not in HANDLERS:
            raise self.refusal(node, f"there is no kernel for {target}")
        return HANDLERS[target]

    def refusal(self, node: FxNode, why: str) -> UnsupportedOperator:
        """The error for a node that cannot be compiled."""
        known = ", ".join(sorted({name.removeprefix("aten.").split(".")[0] for name in HANDLERS}))
        return UnsupportedOperator(
            f"cannot compile {node.name} in module {path_of(node) or '(top level)'}: {why}. Supported: {known}"
        )

    def tensor(self, node: FxNode, index: int) -> str:
        """Name of the tensor that is argument `index`."""
        value = argument(node, index)
        if not isinstance(value, FxNode) or value not in self.tensors:
            raise self.refusal(node, f"argument {index} is not a tensor computed from the input")
        return self.tensors[value]

    def constant(self, node: FxNode, index: int) -> str | None:
        """Name of the constant that is argument `index`, None if absent."""
        value = argument(node, index)
        if value is None:
            return None
        if value not in self.parameters:
            raise self.refusal(node, f"argument {index} is not a parameter or buffer")
        return self.parameters[value]

    def required(self, node: FxNode, index: int) -> str:
        """Name of the constant that is argument `index`, which must be there."""
        name = self.constant(node, index)
        if name is None:
            raise self.refusal(node, f"argument {index} is missing")
        return name

    def add(self, node: FxNode, op: Op, *inputs: str) -> str:
        """Append a node for `node`; returns its tensor's name."""
        value = node.meta["val"]
        shape = value[0].shape if isinstance(value, (tuple, list)) else value.shape
        self.nodes.append(Node(node.name, op, inputs, shape3(tuple(shape[1:])), path_of(node)))
        return node.name


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


def path_of(node: FxNode) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values()]
    return str(paths[-1]) if paths else ""


def shape3(shape: tuple[int, ...]) -> Shape:
    padded = (*shape, 1, 1)[:3] if len(shape) < 3 else shape
    return int(padded[0]), int(padded[1]), int(padded[2])


def pair(value: Any) -> Pair:
    values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
    return (values[0], values[-1])
