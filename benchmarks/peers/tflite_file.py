"""A network as a .tflite file, written with the format's own schema so that no TensorFlow is needed.

Channels come last; batch norms are folded and activations fused as TensorFlow's converter does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn

from benchmarks.errors import PeerUnavailable
from compiler.capture import capture
from compiler.graph import Activation, Add, Conv, Gather, GlobalPool, Graph, Node, Op, Pair, Pool, Scale
from compiler.passes import PASSES

FUSED = {"relu": schema.ActivationFunctionType.RELU, "relu6": schema.ActivationFunctionType.RELU6}
Builtin = schema.BuiltinOperator
Kind = schema.BuiltinOptions


def tflite_bytes(model: nn.Module, image: Tensor) -> bytes:
    """The file's content, for images of the shape of `image` [1, C, H, W].

    Raises:
        PeerUnavailable: if the network holds something that this writer does not know.
    """
    graph = capture(model, (image,))
    for transform in PASSES:
        graph = transform(graph)
    return Writer(graph).content()


class Writer:
    """One file in progress: tensors are numbers, in the order in which they were added."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[int] = []
        self.numbers: dict[str, int] = {}

    def content(self) -> bytes:
        """Translate the graph, node by node."""
        for name, (channels, height, width) in self.graph.inputs.items():
            self.numbers[name] = self.tensor((1, height, width, channels))
        for node in self.graph.nodes:
            if type(node.op) not in TRANSLATIONS:
                raise PeerUnavailable(f"the .tflite writer has no translation for {node.op} of {node.path}")
            self.numbers[node.name] = TRANSLATIONS[type(node.op)](self, node)
        part = schema.SubGraphT()
        part.tensors, part.operators = self.tensors, self.operators
        part.inputs = [self.numbers[name] for name in self.graph.inputs]
        part.outputs = [self.numbers[name] for name in self.graph.outputs]
        whole = schema.ModelT()
        whole.version, whole.subgraphs, whole.buffers = 3, [part], self.buffers
        whole.operatorCodes = [schema.OperatorCodeT(min(code, 127), None, 1, code) for code in self.codes]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(whole.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def tensor(self, shape: Sequence[int], data: npt.NDArray[Any] | None = None) -> int:
        """A new tensor, constant if it has data."""
        entry = schema.TensorT()
        entry.shape, entry.name = list(shape), f"t{len(self.tensors)}".encode()
        if data is not None:
            entry.type = schema.TensorType.INT32 if data.dtype == np.int32 else schema.TensorType.FLOAT32
            entry.buffer = len(self.buffers)
            stored = schema.BufferT()
            stored.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.buffers.append(stored)
        self.tensors.append(entry)
        return len(self.tensors) - 1

    def constant(self, data: npt.NDArray[Any]) -> int:
        """A constant tensor."""
        return self.tensor(data.shape, data)

    def shape(self, number: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(self.tensors[number].shape)

    def emit(self, code: int, inputs: Sequence[int], shape: Sequence[int], kind: int = 0, options: Any = None) -> int:
        """Append an operator; returns its output tensor."""
        if code not in self.codes:
            self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = self.codes.index(code), list(inputs)
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        operator.outputs = [self.tensor(shape)]
        self.operators.append(operator)
        return int(operator.outputs[0])

    def pad(self, number: int, before: Sequence[int], behind: Sequence[int]) -> int:
        """Zeros around a tensor [N, H, W, C]."""
        widths = np.array(list(zip(before, behind, strict=True)), np.int32)
        if not widths.any():
            return number
        shape = [size + a + b for size, a, b in zip(self.shape(number), before, behind, strict=True)]
        return self.emit(Builtin.PAD, [number, self.constant(widths)], shape, Kind.PadOptions, schema.PadOptionsT())

    def pixels(self, number: int, padding: Pair) -> int:
        """Zeros around the picture."""
        return self.pad(number, (0, *padding, 0), (0, *padding, 0))

    def add(self, left: int, right: int, fused: int) -> int:
        """The sum of two tensors, or of a tensor and a number, and what is fused behind it."""
        options = schema.AddOptionsT()
        options.fusedActivationFunction = fused
        return self.emit(Builtin.ADD, [left, right], self.shape(left), Kind.AddOptions, options)

    def multiply(self, left: int, right: int) -> int:
        """The product of two tensors that broadcast to the shape of the first."""
        return self.emit(Builtin.MUL, [left, right], self.shape(left), Kind.MulOptions, schema.MulOptionsT())

    def activate(self, number: int, kind: str) -> int:
        """An activation that could not be fused."""
        shape = self.shape(number)
        match kind:
            case "relu":
                return self.emit(Builtin.RELU, [number], shape)
            case "relu6":
                return self.emit(Builtin.RELU6, [number], shape)
            case "hard_swish":
                return self.emit(Builtin.HARD_SWISH, [number], shape, Kind.HardSwishOptions, schema.HardSwishOptionsT())
            case "hard_sigmoid":
                three, sixth = (self.constant(np.array([value], np.float32)) for value in (3, 1 / 6))
                return self.multiply(self.add(number, three, FUSED["relu6"]), sixth)
            case _:
                raise PeerUnavailable(f"the .tflite writer does not know the activation {kind}")

    def finish(self, number: int, epilogue: Sequence[str], other: int | None = None) -> int:
        """What stands behind an operator, residual sum included; the operator itself took what it could fuse."""
        rest = list(epilogue)
        while rest:
            step = rest.pop(0)
            if step == "add":
                assert other is not None
                number = self.add(number, other, FUSED[rest.pop(0)] if rest and rest[0] in FUSED else 0)
            else:
                number = self.activate(number, step)
        return number


def _convolution(writer: Writer, node: Node) -> int:
    op = node.op
    assert isinstance(op, Conv)
    source = writer.numbers[node.inputs[0]]
    weight = writer.graph.constants[op.weight]
    bias = np.zeros(len(weight), np.float32) if op.bias is None else writer.graph.constants[op.bias]
    same = op.stride == (1, 1) and all(2 * p == k - 1 for p, k in zip(op.padding, weight.shape[2:], strict=True))
    if not same:
        source = writer.pixels(source, op.padding)
    depthwise = 1 < op.groups == len(weight)
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME if same else schema.Padding.VALID
    options.strideH, options.strideW = op.stride
    options.dilationHFactor, options.dilationWFactor = op.dilation
    fused = len(op.epilogue) > 0 and op.epilogue[0] in FUSED
    options.fusedActivationFunction = FUSED[op.epilogue[0]] if fused else 0
    if depthwise:
        options.depthMultiplier = 1
    code, kind, order = (
        (Builtin.DEPTHWISE_CONV_2D, Kind.DepthwiseConv2DOptions, (1, 2, 3, 0))
        if depthwise
        else (Builtin.CONV_2D, Kind.Conv2DOptions, (0, 2, 3, 1))
    )
    inputs = [source, writer.constant(weight.transpose(order)), writer.constant(bias)]
    number = writer.emit(code, inputs, _channels_last(node), kind, options)
    other = writer.numbers[node.inputs[1]] if len(node.inputs) > 1 else None
    return writer.finish(number, op.epilogue[1:] if fused else op.epilogue, other)


def _channels_last(node: Node) -> tuple[int, int, int, int]:
    channels, height, width = node.shape
    return 1, height, width, channels


def _sum(writer: Writer, node: Node) -> int:
    assert isinstance(node.op, Add)
    left, right = (writer.numbers[name] for name in node.inputs)
    return writer.finish(left, ("add", *node.op.epilogue), right)


def _scale(writer: Writer, node: Node) -> int:
    assert isinstance(node.op, Scale)
    left, right = (writer.numbers[name] for name in node.inputs)
    return writer.finish(writer.multiply(left, right), node.op.epilogue)


def _activation(writer: Writer, node: Node) -> int:
    assert isinstance(node.op, Activation)
    return writer.activate(writer.numbers[node.inputs[0]], node.op.kind)


def _global_pool(writer: Writer, node: Node) -> int:
    options = schema.ReducerOptionsT()
    options.keepDims = True
    inputs = [writer.numbers[node.inputs[0]], writer.constant(np.array([1, 2], np.int32))]
    return writer.emit(Builtin.MEAN, inputs, _channels_last(node), Kind.ReducerOptions, options)


def _pool(writer: Writer, node: Node) -> int:
    op = node.op
    assert isinstance(op, Pool)
    producer = next((other.op for other in writer.graph.nodes if other.name == node.inputs[0]), None)
    rectified = getattr(producer, "epilogue", ())[-1:] in [(kind,) for kind in FUSED]
    if op.kind != "max" or (any(op.padding) and not rectified):
        raise PeerUnavailable(f"the .tflite writer knows maximum pooling, padded only behind a ReLU, not {op}")
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.VALID
    options.filterHeight, options.filterWidth = op.kernel
    options.strideH, options.strideW = op.stride
    source = writer.pixels(writer.numbers[node.inputs[0]], op.padding)
    return writer.emit(Builtin.MAX_POOL_2D, [source], _channels_last(node), Kind.Pool2DOptions, options)


def _gather(writer: Writer, node: Node) -> int:
    """Every n-th pixel between channels of zeros: a depthwise 1x1 convolution with ones, as XNNPACK does not slice."""
    op = node.op
    assert isinstance(op, Gather)
    index = writer.graph.indices[op.index]
    channels, height, width = writer.graph.shape_of(node.inputs[0])
    live = np.flatnonzero((index >= 0).any((1, 2)))
    before, rows, cols = int(live[0]), node.shape[1], node.shape[2]
    stride = (-(-height // rows), -(-width // cols))
    whole = np.arange(channels * height * width).reshape(channels, height, width)[:, :: stride[0], :: stride[1]]
    expected = np.pad(whole, ((before, node.shape[0] - channels - before), (0, 0), (0, 0)), constant_values=-1)
    if len(node.inputs) > 1 or op.fill != 0 or not np.array_equal(index, expected):
        raise PeerUnavailable("the .tflite writer knows no movement of data but strided slices between zeros")
    source = writer.numbers[node.inputs[0]]
    if stride != (1, 1):
        options = schema.DepthwiseConv2DOptionsT()
        options.padding, options.depthMultiplier = schema.Padding.VALID, 1
        options.strideH, options.strideW = stride
        ones, zeros = np.ones((1, 1, 1, channels), np.float32), np.zeros(channels, np.float32)
        inputs = [source, writer.constant(ones), writer.constant(zeros)]
        shape = (1, rows, cols, channels)
        source = writer.emit(Builtin.DEPTHWISE_CONV_2D, inputs, shape, Kind.DepthwiseConv2DOptions, options)
    return writer.pad(source, (0, 0, 0, before), (0, 0, 0, node.shape[0] - channels - before))


TRANSLATIONS: dict[type[Op], Callable[[Writer, Node], int]] = {
    Conv: _convolution,
    Add: _sum,
    Scale: _scale,
    Activation: _activation,
    GlobalPool: _global_pool,
    Pool: _pool,
    Gather: _gather,
}
