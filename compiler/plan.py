"""From the graph to a sequence of kernels on buffers in one arena."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from compiler.buffers import make_buffers
from compiler.errors import UnsupportedOperator
from compiler.graph import Activation, Add, Conv, GlobalPool, Graph, Node, Pool, Relayout, Resample, Scale, Shape
from compiler.kernels import FAMILIES, Code, Operands, Schedule
from compiler.layout import Buffer
from compiler.memory import Lifetime, largest_live_set, plan_memory
from compiler.ordering import Call, sequence, user_input, user_output
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


def scratch_name(step: int) -> str:
    """Name of a step's working memory among the plan's offsets."""
    return f"scratch[{step}]"


def make_plan(
    graph: Graph,
    target: Target,
    threads: int = 1,
    choose: Choose = schedule,
    layouts: Mapping[str, tuple[str, str]] | None = None,
) -> Plan:
    """Choose layouts, a kernel and buffers for every node of `graph`, after all passes.

    Args:
        choose: the schedule of a spec on a target.
        layouts: of what each node reads and writes; by default those that cost least.

    Raises:
        UnsupportedOperator: if a node has no kernel.
    """
    calls = [_call(node, graph, threads, layouts) for node in graph.nodes]
    ordered = sequence(calls, graph.inputs, graph.outputs, target, free=layouts is None)
    buffers = make_buffers(ordered, target)
    outside = {user_input(index): Buffer(*shape, lanes=1) for index, shape in enumerate(graph.inputs.values())}
    outside |= {user_output(index): Buffer(*graph.shape_of(name), lanes=1) for index, name in enumerate(graph.outputs)}
    planner = _Planner(graph, buffers | outside, target, choose)
    steps = tuple(planner.step(call) for call in ordered)
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


def _call(node: Node, graph: Graph, threads: int, layouts: Mapping[str, tuple[str, str]] | None) -> Call:
    spec = replace(_spec(node, graph), threads=threads)
    if layouts is not None:
        reads, writes = layouts[node.name]
        spec = replace(spec, reads=reads, writes=writes)
    return Call(node.path or node.name, spec, node.inputs, node.name)


@dataclass(frozen=True)
class _Planner:
    """What is fixed while the steps are made."""

    graph: Graph
    buffers: Mapping[str, Buffer]
    target: Target
    choose: Choose

    def step(self, call: Call) -> Step:
        """The code and the data of a call."""
        chosen = self.choose(call.spec, self.target)
        family = FAMILIES[chosen.family]
        use = self._operands(call)
        code = family.code(call.spec, chosen, use, self.target)
        dims, constants = family.data(call.spec, chosen, use)
        scratch = family.scratch(call.spec, chosen, use)
        return Step(call.layer, call.spec, chosen, code, tuple(dims), constants, call.inputs, call.output, scratch)

    def _operands(self, call: Call) -> Operands:
        use = Operands(self.buffers[call.inputs[0]], self.buffers[call.output])
        if len(call.inputs) > 1:
            use = replace(use, r=self.buffers[call.inputs[1]])
        op = next((node.op for node in self.graph.nodes if node.name == call.output), None)
        if isinstance(op, Conv):
            constants = self.graph.constants
            weight = constants[op.weight]
            bias = np.zeros(len(weight), np.float32) if op.bias is None else constants[op.bias]
            use = replace(use, weight=weight, bias=bias)
        if isinstance(op, Resample):
            use = replace(use, first_channel=op.before)
        return use


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
        case Relayout():
            return KernelSpec("convert", channels, channels, height, width)
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
