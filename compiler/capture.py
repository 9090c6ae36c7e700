"""`torch.export` of a network to our graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.fx import Node as FxNode

from compiler.errors import CaptureFailed, InvalidWeights, UnsupportedOperator
from compiler.graph import (
    Activation,
    Add,
    Array,
    BatchNorm,
    Conv,
    Flatten,
    GlobalPool,
    Graph,
    Linear,
    Node,
    Op,
    Pair,
    Pool,
    Resample,
    Scale,
    Shape,
)

Handler = Callable[["Capture", FxNode], str]
HANDLERS: dict[str, Handler] = {}


def handles(*targets: str) -> Callable[[Handler], Handler]:
    """Register a translation for operators of `torch.export`'s graph."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(targets, handler))
        return handler

    return register


def capture(model: nn.Module, example_inputs: Sequence[Tensor]) -> Graph:
    """The graph of `model` in evaluation mode; the module is left as it was.

    Args:
        model: any module that `torch.export` can trace.
        example_inputs: tensors [N, C, H, W] or [N, F]; only N may differ later.

    Raises:
        CaptureFailed: if tracing fails.
        UnsupportedOperator: naming the node, its module and what is supported.
        InvalidWeights: if a weight is NaN or infinite.
    """
    with _evaluating(model):
        try:
            program = torch.export.export(model, tuple(example_inputs)).run_decompositions({})
        except Exception as error:
            raise CaptureFailed(
                f"torch.export could not trace {type(model).__name__}: {error}\n"
                "Make its forward free of data-dependent control flow, then try torch.export.export on it."
            ) from error
    return Capture(program).graph()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


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
        self.inputs[node.name] = _shape3(tuple(value.shape[1:]))
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
            f"cannot compile {node.name} in module {_path(node) or '(top level)'}: {why}. Supported: {known}"
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
        self.nodes.append(Node(node.name, op, inputs, _shape3(tuple(shape[1:])), _path(node)))
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


def _path(node: FxNode) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values()]
    return str(paths[-1]) if paths else ""


def _shape3(shape: tuple[int, ...]) -> Shape:
    padded = (*shape, 1, 1)[:3] if len(shape) < 3 else shape
    return int(padded[0]), int(padded[1]), int(padded[2])


def _pair(value: Any) -> Pair:
    values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
    return (values[0], values[-1])


@handles("aten.conv2d.default")
def _conv(capture: Capture, node: FxNode) -> str:
    op = Conv(
        weight=capture.required(node, 1),
        bias=capture.constant(node, 2),
        stride=_pair(argument(node, 3)),
        padding=_pair(argument(node, 4)),
        dilation=_pair(argument(node, 5)),
        groups=int(argument(node, 6)),
    )
    return capture.add(node, op, capture.tensor(node, 0))


@handles("aten.conv2d.padding")
def _conv_padding(capture: Capture, node: FxNode) -> str:
    weight = capture.required(node, 1)
    kernel = capture.constants[weight].shape[2:]
    stride, dilation = _pair(argument(node, 3)), _pair(argument(node, 5))
    total = [d * (k - 1) if argument(node, 4) == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    if any(t % 2 for t in total):
        raise capture.refusal(node, "padding='same' with an even kernel pads unevenly")
    padding = (total[0] // 2, total[1] // 2)
    op = Conv(weight, capture.constant(node, 2), stride, padding, dilation, int(argument(node, 6)))
    return capture.add(node, op, capture.tensor(node, 0))


@handles("aten._native_batch_norm_legit_no_training.default")
def _batch_norm(capture: Capture, node: FxNode) -> str:
    mean = capture.constants[capture.required(node, 3)].astype(np.float64)
    variance = capture.constants[capture.required(node, 4)].astype(np.float64)
    weight, bias = capture.constant(node, 1), capture.constant(node, 2)
    scale = (1.0 if weight is None else capture.constants[weight]) / np.sqrt(variance + float(argument(node, 6)))
    shift = (0.0 if bias is None else capture.constants[bias]) - mean * scale
    for name, value in ((f"{node.name}.scale", scale), (f"{node.name}.shift", shift)):
        capture.constants[name] = np.asarray(value, np.float32)
    return capture.add(node, BatchNorm(f"{node.name}.scale", f"{node.name}.shift"), capture.tensor(node, 0))


@handles("aten.linear.default")
def _linear(capture: Capture, node: FxNode) -> str:
    if len(node.meta["val"].shape) != 2:
        raise capture.refusal(node, "a linear layer is compiled on [N, F] only")
    return capture.add(node, Linear(capture.required(node, 1), capture.constant(node, 2)), capture.tensor(node, 0))


@handles("aten.relu.default")
def _relu(capture: Capture, node: FxNode) -> str:
    return capture.add(node, Activation("relu"), capture.tensor(node, 0))


@handles("aten.hardswish.default")
def _hard_swish(capture: Capture, node: FxNode) -> str:
    return capture.add(node, Activation("hard_swish"), capture.tensor(node, 0))


@handles("aten.hardsigmoid.default")
def _hard_sigmoid(capture: Capture, node: FxNode) -> str:
    return capture.add(node, Activation("hard_sigmoid"), capture.tensor(node, 0))


@handles("aten.hardtanh.default")
def _hard_tanh(capture: Capture, node: FxNode) -> str:
    low, high = float(argument(node, 1)), float(argument(node, 2))
    if (low, high) != (0.0, 6.0):
        raise capture.refusal(node, f"clipping to [{low}, {high}] is not supported, only ReLU6")
    return capture.add(node, Activation("relu6"), capture.tensor(node, 0))


@handles("aten.add.Tensor")
def _add(capture: Capture, node: FxNode) -> str:
    names = capture.tensor(node, 0), capture.tensor(node, 1)
    shapes = [tuple(argument(node, i).meta["val"].shape) for i in (0, 1)]
    if shapes[0] != shapes[1] or argument(node, 2, 1) != 1:
        raise capture.refusal(node, f"only sums of two tensors of one shape are supported, not {shapes}")
    return capture.add(node, Add(), *names)


@handles("aten.mul.Tensor")
def _mul(capture: Capture, node: FxNode) -> str:
    names = [capture.tensor(node, 0), capture.tensor(node, 1)]
    shapes = [tuple(argument(node, i).meta["val"].shape) for i in (0, 1)]
    if shapes[0][2:] == (1, 1):
        names.reverse()
        shapes.reverse()
    if len(shapes[1]) != 4 or shapes[0][:2] != shapes[1][:2] or shapes[1][2:] != (1, 1):
        raise capture.refusal(node, f"only a product with one value a channel is supported, not {shapes}")
    return capture.add(node, Scale(), *names)


@handles("aten.slice.Tensor")
def _slice(capture: Capture, node: FxNode) -> str:
    source = argument(node, 0).meta["val"]
    dim = int(argument(node, 1, 0)) % source.ndim
    start, end, step = argument(node, 2, 0), argument(node, 3, source.shape[dim]), int(argument(node, 4, 1))
    if int(start) != 0 or int(end) < source.shape[dim] or (dim < 2 and step != 1):
        raise capture.refusal(node, f"slice [{start}:{end}:{step}] of dimension {dim}: only every n-th pixel of all")
    stride = (step if dim == 2 else 1, step if dim == 3 else 1)
    return capture.add(node, Resample(stride), capture.tensor(node, 0))


@handles("aten.constant_pad_nd.default", "aten.pad.default")
def _pad(capture: Capture, node: FxNode) -> str:
    widths = [int(width) for width in argument(node, 1)] + [0] * 6
    value = argument(node, 3, 0.0) if "aten.pad" in str(node.target) else argument(node, 2, 0.0)
    if any(widths[:4]) or any(widths[6:]) or min(widths) < 0 or float(value) != 0:
        raise capture.refusal(node, f"padding {argument(node, 1)} with {value}: only zero channels can be added")
    return capture.add(node, Resample(before=widths[4]), capture.tensor(node, 0))


def _pool_window(capture: Capture, node: FxNode) -> tuple[Pair, Pair, Pair]:
    kernel = _pair(argument(node, 1))
    stride = _pair(argument(node, 2) or kernel)
    return kernel, stride, _pair(argument(node, 3, 0))


@handles("aten.max_pool2d.default")
def _max_pool(capture: Capture, node: FxNode) -> str:
    kernel, stride, padding = _pool_window(capture, node)
    if _pair(argument(node, 4, 1)) != (1, 1) or argument(node, 5, False):
        raise capture.refusal(node, "dilation and ceil_mode of a pooling are not supported")
    return capture.add(node, Pool("max", kernel, stride, padding), capture.tensor(node, 0))


@handles("aten.avg_pool2d.default")
def _avg_pool(capture: Capture, node: FxNode) -> str:
    kernel, stride, padding = _pool_window(capture, node)
    if argument(node, 4, False) or argument(node, 6) is not None:
        raise capture.refusal(node, "ceil_mode and divisor_override of a pooling are not supported")
    op = Pool("avg", kernel, stride, padding, bool(argument(node, 5, True)))
    return capture.add(node, op, capture.tensor(node, 0))


@handles("aten.adaptive_avg_pool2d.default")
def _adaptive_pool(capture: Capture, node: FxNode) -> str:
    if _pair(argument(node, 1)) != (1, 1):
        raise capture.refusal(node, "adaptive pooling is supported to 1x1 only")
    return capture.add(node, GlobalPool(), capture.tensor(node, 0))


@handles("aten.mean.dim")
def _mean(capture: Capture, node: FxNode) -> str:
    source = argument(node, 0).meta["val"]
    dims = sorted(int(d) % source.ndim for d in argument(node, 1))
    if source.ndim != 4 or dims != [2, 3]:
        raise capture.refusal(node, f"a mean over dimensions {dims} is not supported, only over all pixels")
    return capture.add(node, GlobalPool(), capture.tensor(node, 0))


@handles("aten.clone.default", "aten.alias.default", "aten.contiguous.default", "aten.dropout.default")
def _identity(capture: Capture, node: FxNode) -> str:
    return capture.tensor(node, 0)


@handles("<built-in function getitem>")
def _getitem(capture: Capture, node: FxNode) -> str:
    if node.args[1] != 0:
        raise capture.refusal(node, "only the first result of an operator is supported")
    return capture.tensor(node, 0)


@handles("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints")
def _reshape(capture: Capture, node: FxNode) -> str:
    before, after = argument(node, 0).meta["val"].shape, node.meta["val"].shape
    if before[0] != after[0] or _shape3(tuple(after[1:]))[1:] != (1, 1):
        raise capture.refusal(node, f"reshaping {tuple(before)} to {tuple(after)}: only flattening is supported")
    if _shape3(tuple(before[1:])) == _shape3(tuple(after[1:])):
        return capture.tensor(node, 0)
    return capture.add(node, Flatten(), capture.tensor(node, 0))
