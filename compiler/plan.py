"""From the graph to a sequence of kernels on buffers in one arena."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from compiler.errors import UnsupportedOperator
from compiler.graph import Activation, Add, Conv, GlobalPool, Graph, Node, Pool, Resample, Scale, Shape
from compiler.kernels import FAMILIES, Code, Operands, Schedule
from compiler.kernels.filter_vector import PLANAR_CHANNELS
from compiler.layout import Buffer
from compiler.memory import Lifetime, largest_live_set, plan_memory
from compiler.select import schedule
from compiler.spec import KernelSpec
from compiler.structure import structure_of
from compiler.target import Target
from pruning import Sparsity

Choose = Callable[[KernelSpec, Target], Schedule]


@dataclass(frozen=True)
class Step:
    """One kernel call.

    Attributes:
        layer: name for tables: the module path, or the tensor.
        spec, schedule, code: what is called.
        dims, constants: its data.
        reads: tensors or user inputs, the residual second.
        writes: tensor or user output.
        scratch: bytes of working memory.
    """

    layer: str
    spec: KernelSpec
    schedule: Schedule
    code: Code
    dims: tuple[int, ...]
    constants: bytes
    reads: tuple[str, ...]
    writes: str
    scratch: int


@dataclass(frozen=True)
class Plan:
    """Everything that the driver is generated from.

    Attributes:
        inputs, outputs: torch shapes without the batch dimension, in the user's order.
        steps: kernels in execution order.
        buffers: layout of each tensor in the arena.
        offsets: byte offset there of each tensor, and of each step's working memory.
        arena: bytes of the arena.
        live: bytes of the largest set of tensors alive together.
    """

    target: Target
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]
    buffers: dict[str, Buffer]
    offsets: dict[str, int]
    arena: int
    live: int


def user_input(index: int) -> str:
    """Name of the user's input array in a step's `reads`."""
    return f"in[{index}]"


def user_output(index: int) -> str:
    """Name of the user's output array in a step's `writes`."""
    return f"out[{index}]"


def scratch_name(step: int) -> str:
    """Name of a step's working memory among the plan's offsets."""
    return f"scratch[{step}]"


def make_plan(graph: Graph, target: Target, threads: int = 1, choose: Choose = schedule) -> Plan:
    """Choose a kernel and buffers for every node of `graph`, after all passes.

    Args:
        choose: the schedule of a spec on a target.

    Raises:
        UnsupportedOperator: if a node has no kernel.
    """
    buffers = _buffers(graph, target)
    steps = tuple(_Planner(graph, buffers, target, threads, choose).steps())
    lives: dict[str, Lifetime] = {}
    for index, step in enumerate(steps):
        for name in (step.writes, *step.reads):
            if name in buffers:
                first = lives[name].first if name in lives else index
                lives[name] = Lifetime(4 * buffers[name].size, first, index)
        if step.scratch:
            lives[scratch_name(index)] = Lifetime(step.scratch, index, index)
    offsets, arena = plan_memory(lives)
    shapes = tuple(_torch_shape(shape) for shape in graph.inputs.values())
    return Plan(target, shapes, graph.output_shapes, steps, buffers, offsets, arena, largest_live_set(lives))


def _torch_shape(shape: Shape) -> tuple[int, ...]:
    return tuple(shape)


def _buffers(graph: Graph, target: Target) -> dict[str, Buffer]:
    readers = graph.consumers()
    buffers = {}
    for name in (*graph.inputs, *(node.name for node in graph.nodes)):
        shape = graph.shape_of(name)
        convolutions = [node.op for node in readers[name] if isinstance(node.op, Conv) and node.inputs[0] == name]
        halo = (
            max((op.padding[0] for op in convolutions), default=0),
            max((op.padding[1] for op in convolutions), default=0),
        )
        only_convolved = len(convolutions) == len(readers[name]) and all(op.groups == 1 for op in convolutions)
        planar = name in graph.inputs and only_convolved and shape[0] <= PLANAR_CHANNELS and name not in graph.outputs
        buffers[name] = Buffer(*shape, lanes=1 if planar else target.vector, halo=halo)
    return buffers


@dataclass(frozen=True)
class _Planner:
    """What is fixed while the steps are made."""

    graph: Graph
    buffers: dict[str, Buffer]
    target: Target
    threads: int
    choose: Choose

    def steps(self) -> Iterator[Step]:
        """The kernels in execution order; an input is packed just before it is first read."""
        packed: set[str] = set()
        order = {name: index for index, name in enumerate(self.graph.inputs)}

        def pack(tensors: Iterable[str]) -> Iterator[Step]:
            for tensor in tensors:
                if tensor in order and tensor not in packed:
                    packed.add(tensor)
                    yield self._convert("pack", tensor, user_input(order[tensor]), tensor)

        for node in self.graph.nodes:
            yield from pack(node.inputs)
            yield self._step(node)
        for index, tensor in enumerate(self.graph.outputs):
            yield from pack([tensor])
            yield self._convert("unpack", tensor, tensor, user_output(index))

    def _convert(self, op: str, tensor: str, reads: str, writes: str) -> Step:
        buffer = self.buffers[tensor]
        spec = KernelSpec(op, buffer.channels, buffer.channels, buffer.height, buffer.width)
        return self._make(tensor, spec, Operands(buffer, buffer), (reads,), writes)

    def _step(self, node: Node) -> Step:
        spec = replace(_spec(node, self.graph), threads=self.threads)
        use = Operands(self.buffers[node.inputs[0]], self.buffers[node.name])
        if len(node.inputs) > 1:
            use = replace(use, r=self.buffers[node.inputs[1]])
        if isinstance(node.op, Conv):
            constants = self.graph.constants
            weight = constants[node.op.weight]
            bias = np.zeros(len(weight), np.float32) if node.op.bias is None else constants[node.op.bias]
            use = replace(use, weight=weight, bias=bias)
        if isinstance(node.op, Resample):
            use = replace(use, first_channel=node.op.before)
        return self._make(node.path or node.name, spec, use, node.inputs, node.name)

    def _make(self, layer: str, spec: KernelSpec, use: Operands, reads: tuple[str, ...], writes: str) -> Step:
        chosen = self.choose(spec, self.target)
        family = FAMILIES[chosen.family]
        code = family.code(spec, chosen, use, self.target)
        dims, constants = family.data(spec, chosen, use)
        scratch = family.scratch(spec, chosen, use)
        return Step(layer, spec, chosen, code, tuple(dims), constants, reads, writes, scratch)


def _spec(node: Node, graph: Graph) -> KernelSpec:
    channels, height, width = graph.shape_of(node.inputs[0])
    op = node.op
    match op:
        case Conv():
            weight = graph.constants[op.weight]
            kind = _convolution_kind(node, op, channels, height, width, weight.shape)
            return KernelSpec(
                kind,
                channels,
                len(weight),
                height,
                width,
                kernel=(weight.shape[2], weight.shape[3]),
                stride=op.stride,
                padding=op.padding,
                dilation=op.dilation,
                groups=op.groups,
                epilogue=op.epilogue,
                sparsity=Sparsity() if kind == "depthwise" else structure_of(weight),
            )
        case Pool():
            name = "max_pool" if op.kind == "max" else "avg_pool" if op.count_padding else "avg_pool_valid"
            return KernelSpec(name, channels, channels, height, width, op.kernel, op.stride, op.padding)
        case GlobalPool():
            return KernelSpec("global_pool", channels, channels, height, width)
        case Add():
            return KernelSpec("add", channels, channels, height, width, epilogue=("add", *op.epilogue))
        case Scale():
            return KernelSpec("scale", channels, channels, height, width, epilogue=op.epilogue)
        case Resample():
            return KernelSpec("resample", channels, node.shape[0], height, width, stride=op.stride)
        case Activation():
            return KernelSpec("activation", channels, channels, height, width, epilogue=(op.kind,))
        case _:
            raise UnsupportedOperator(f"{node.name} in module {node.path}: there is no kernel for {op}")


def _convolution_kind(node: Node, op: Conv, channels: int, height: int, width: int, shape: tuple[int, ...]) -> str:
    if op.groups == 1:
        return "linear" if (height, width, *shape[2:]) == (1, 1, 1, 1) else "conv"
    if op.groups == channels == shape[0]:
        return "depthwise"
    raise UnsupportedOperator(
        f"{node.name} in module {node.path or '(top level)'} has {op.groups} groups of {shape[1]} channels; "
        "supported are ungrouped and depthwise convolutions"
    )
