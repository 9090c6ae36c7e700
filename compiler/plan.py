"""From the graph to a sequence of kernels on buffers in one arena."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compiler.buffers import make_buffers
from compiler.graph import Conv, Gather, Graph, Node
from compiler.kernels import FAMILIES, Code, Operands, Schedule
from compiler.layout import Buffer
from compiler.memory import Lifetime, largest_live_set, plan_memory
from compiler.ordering import Call, sequence, user_input, user_output
from compiler.select import schedule, shared
from compiler.sharing import share_buffers
from compiler.spec import KernelSpec
from compiler.spec_of import spec_of
from compiler.target import Target
from compiler.team import APART

Choose = Callable[[KernelSpec, Target], Schedule]
MOVES = frozenset({"pack", "unpack", "convert"})
"""Operations that change a tensor's layout only."""


@dataclass(frozen=True)
class Step:
    """One kernel call.

    Attributes:
        layer: name for tables: the module path, or the tensor.
        spec, schedule, code: what is called.
        dims, constants: its data.
        reads: tensors or user inputs, the residual second.
        writes: tensor or user output.
        scratch: bytes of working memory, of each thread.
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
        types: type of each input's elements.
        steps: kernels in execution order.
        buffers: layout of each tensor in the arena.
        offsets: byte offset there of each tensor, and of working memory: see `scratch_name`.
        private: bytes from the working memory of one thread to that of the next.
        arena: bytes of the arena.
        live: bytes of the largest set of tensors alive together, working memory of kernels apart.
    """

    target: Target
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]
    steps: tuple[Step, ...]
    buffers: dict[str, Buffer]
    offsets: dict[str, int]
    private: int
    arena: int
    live: int

    @property
    def threads(self) -> int:
        """The most threads that share a kernel."""
        return _threads(self.steps)


def scratch_name(step: int, threads: int) -> str:
    """Name of a step's working memory among the plan's offsets.

    One thread takes what is free at the moment. Each of several has its own for the whole run: what it has written
    before is in its own cache, and what another has written would have to come from there.
    """
    return "scratch" if threads > 1 else f"scratch[{step}]"


def make_plan(
    graph: Graph,
    target: Target,
    threads: int = 1,
    choose: Choose = schedule,
    layouts: Mapping[str, tuple[str, str]] | None = None,
) -> Plan:
    """Choose layouts, a kernel and buffers for every node of `graph`, after all passes.

    Args:
        threads: threads that may share the work of a kernel, where it is worth it.
        choose: the schedule of a spec on a target.
        layouts: of what each node reads and writes; by default those that cost least.

    Raises:
        UnsupportedOperator: if a node has no kernel.
    """
    ordered = kernel_calls(graph, target, threads, layouts)
    sharing = share_buffers(ordered, graph, make_buffers(ordered, target))
    buffers = dict(sharing.buffers)
    outside = {user_input(index): Buffer(*shape, lanes=1) for index, shape in enumerate(graph.inputs.values())}
    outside |= {user_output(index): Buffer(*graph.shape_of(name), lanes=1) for index, name in enumerate(graph.outputs)}
    nodes = {node.name: node for node in graph.nodes}
    planner = _Planner(graph, nodes, buffers | outside, target, choose)
    steps = tuple(planner.step(call) for call in sharing.calls)
    lives: dict[str, Lifetime] = {}
    threads = _threads(steps)
    private = -(-max((step.scratch for step in steps), default=0) // APART) * APART
    for index, step in enumerate(steps):
        for name in (step.writes, *step.reads):
            if name in buffers:
                holder, _ = sharing.place(name)
                first = lives[holder].first if holder in lives else index
                lives[holder] = Lifetime(4 * buffers[holder].size, first, index)
        if step.scratch:
            one = Lifetime(step.scratch, index, index)
            lives[scratch_name(index, threads)] = Lifetime(threads * private, 0, len(steps)) if threads > 1 else one
    held, arena = plan_memory(lives)
    places = {name: sharing.place(name) for name in buffers}
    offsets = held | {name: held[holder] + 4 * floats for name, (holder, floats) in places.items() if holder in held}
    return Plan(
        target,
        graph.input_shapes,
        graph.output_shapes,
        graph.input_types,
        steps,
        buffers,
        offsets,
        private,
        arena,
        largest_live_set({name: life for name, life in lives.items() if name in buffers}),
    )


def graph_calls(graph: Graph) -> tuple[Call, ...]:
    """The kernels of `graph`, after all passes, in an order in which they can run and in no chosen layout.

    Raises:
        UnsupportedOperator: if a node has no kernel.
    """
    return tuple(call for node in graph.nodes for call in _calls(node, graph, None))


def _threads(steps: Sequence[Step]) -> int:
    return max((step.spec.threads for step in steps), default=1)


def kernel_calls(
    graph: Graph, target: Target, threads: int = 1, layouts: Mapping[str, tuple[str, str]] | None = None
) -> tuple[Call, ...]:
    """The kernels of `graph`, after all passes, in execution order; arguments and errors are those of `make_plan`."""
    calls = [call for node in graph.nodes for call in _calls(node, graph, layouts)]
    alone = sequence(calls, graph.inputs, graph.outputs, target, free=layouts is None)
    return tuple(replace(call, spec=shared(call.spec, threads, target)) for call in alone)


def _calls(node: Node, graph: Graph, layouts: Mapping[str, tuple[str, str]] | None) -> Iterator[Call]:
    """The call that computes a node; a movement of several tensors is one call each."""
    layer = node.path or node.name
    movements = [(name,) for name in node.inputs] if isinstance(node.op, Gather) else [node.inputs]
    for source, inputs in enumerate(movements):
        spec = spec_of(node, graph, source)
        if layouts is not None:
            reads, writes = layouts[node.name]
            spec = replace(spec, reads=reads, writes=writes)
        yield Call(layer, spec, inputs, node.name, source)


@dataclass(frozen=True)
class _Planner:
    """What is fixed while the steps are made."""

    graph: Graph
    nodes: Mapping[str, Node]
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
        graph, y = self.graph, self.buffers[call.output]
        use = Operands(self.buffers[call.inputs[0]] if call.inputs else y, y)
        if len(call.inputs) > 1:
            use = replace(use, r=self.buffers[call.inputs[1]])
        node = self.nodes.get(call.output)
        if node is None or call.spec.op in MOVES:
            return use
        use = replace(use, op=node.op)
        match node.op:
            case Conv() as op:
                weight = graph.constants[op.weight]
                bias = np.zeros(len(weight), np.float32) if op.bias is None else graph.constants[op.bias]
                return replace(use, weight=weight, bias=bias)
            case Gather() as op:
                sizes = [math.prod(graph.shape_of(name)) for name in node.inputs[: call.source]]
                return replace(use, index=graph.indices[op.index], first=sum(sizes))
            case op:
                names = (value for value in vars(op).values() if isinstance(value, str) and value in graph.constants)
                return replace(use, arrays=tuple(graph.constants[name] for name in names))
