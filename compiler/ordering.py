"""The kernels of a network in the order in which they run, and the layout of every tensor between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from compiler.elimination import Factor, Table, minimise
from compiler.errors import UnsupportedOperator
from compiler.graph import Shape
from compiler.layout import BLOCKED, LAYOUTS, PLANAR
from compiler.select import schedule
from compiler.spec import KernelSpec
from compiler.target import Target

STATES = ((BLOCKED,), (PLANAR,), (BLOCKED, PLANAR))
"""The layouts in which a tensor may be had."""


@dataclass(frozen=True)
class Call:
    """A kernel and the tensors that it works on.

    Attributes:
        layer: name for tables.
        spec: the kernel.
        inputs: tensors or user inputs, the residual second; none for a constant.
        output: tensor or user output; several calls may each write a part of one.
        source: which of its operator's inputs a movement reads.
    """

    layer: str
    spec: KernelSpec
    inputs: tuple[str, ...]
    output: str
    source: int = 0


def user_input(index: int) -> str:
    """Name of the user's input array in a call's `inputs`."""
    return f"in[{index}]"


def user_output(index: int) -> str:
    """Name of the user's output array in a call's `output`."""
    return f"out[{index}]"


def sequence(
    calls: Sequence[Call], inputs: Mapping[str, Shape], outputs: Sequence[str], target: Target, *, free: bool = True
) -> tuple[Call, ...]:
    """All calls of a network, with the layouts for which they cost the fewest cycles together.

    Packing an input (just before it is first read), unpacking the outputs and converting tensors between layouts are
    calls too, and their cycles count. The choice is exact.

    Args:
        calls: kernels on tensors, in an order in which they can run.
        inputs: shape of each input tensor by name, in the user's order.
        outputs: tensors handed back.
        free: whether layouts may be chosen; otherwise those of the specs stay.

    Raises:
        UnsupportedOperator: if there is no kernel for a call.
    """
    options = [_options(call.spec, target, free) for call in calls]
    states = _choose_states(calls, options, inputs, outputs, target)
    return tuple(_Writer(inputs, outputs, target, states).calls(calls, options))


@dataclass(frozen=True)
class _Option:
    reads: str
    writes: str
    cycles: float


@lru_cache(maxsize=65536)
def _options(spec: KernelSpec, target: Target, free: bool) -> tuple[_Option, ...]:
    """The layouts in which `spec` can be computed.

    Raises:
        UnsupportedOperator: if there are none.
    """
    if not free:
        return (_Option(spec.reads, spec.writes, schedule(spec, target).cycles),)
    found = []
    for reads, writes in itertools.product(LAYOUTS, LAYOUTS):
        try:
            cycles = schedule(replace(spec, reads=reads, writes=writes), target).cycles
        except UnsupportedOperator:
            continue
        found.append(_Option(reads, writes, cycles))
    return tuple(found) or (_Option(BLOCKED, BLOCKED, schedule(spec, target).cycles),)


@lru_cache(maxsize=65536)
def _moving(op: str, shape: Shape, reads: str = BLOCKED, writes: str = BLOCKED) -> KernelSpec:
    """The spec of a `pack`, `unpack` or `convert`."""
    channels, height, width = shape
    return KernelSpec(op, channels, channels, height, width, reads=reads, writes=writes)


def _shapes(calls: Iterable[Call], inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    made = {call.output: (call.spec.out_channels, *call.spec.out_size) for call in calls}
    return {**inputs, **made}


def _choose_states(
    calls: Sequence[Call],
    options: Sequence[tuple[_Option, ...]],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    target: Target,
) -> dict[str, tuple[str, ...]]:
    """In which layouts each tensor is to be had, at least cost."""
    shapes = _shapes(calls, inputs)
    domains = _domains(calls, options, inputs, outputs, shapes, target)
    factors = []
    for name, shape in inputs.items():
        packs = {layout: _cycles("pack", shape, BLOCKED, layout, target) for layout in LAYOUTS}
        factors.append(Factor((name,), np.array([sum(packs[layout] for layout in s) for s in domains[name]])))
    for name in outputs:
        unpacks = {layout: _cycles("unpack", shapes[name], layout, BLOCKED, target) for layout in LAYOUTS}
        factors.append(Factor((name,), np.array([min(unpacks[layout] for layout in s) for s in domains[name]])))
    for call, offered in zip(calls, options, strict=True):
        names = tuple(dict.fromkeys((*call.inputs, call.output)))
        free = tuple(name for name in names if len(domains[name]) > 1)
        if not free:
            continue
        shape = shapes[call.output]
        copies = (
            _cycles("convert", shape, BLOCKED, PLANAR, target),
            _cycles("convert", shape, PLANAR, BLOCKED, target),
        )
        operands = tuple(names.index(name) for name in (*call.inputs, call.output))
        factors.append(Factor(free, _table(offered, operands, tuple(domains[name] for name in names), copies)))
    sizes = {name: len(domain) for name, domain in domains.items() if len(domain) > 1}
    chosen = minimise([factor for factor in factors if sizes.keys() >= set(factor.variables)], sizes)
    return {name: domain[chosen.get(name, 0)] for name, domain in domains.items()}


def _domains(
    calls: Sequence[Call],
    options: Sequence[tuple[_Option, ...]],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    shapes: Mapping[str, Shape],
    target: Target,
) -> dict[str, tuple[tuple[str, ...], ...]]:
    """The states that are worth considering for each tensor.

    Where tensors that calls connect could lie in planes, but no call among them is faster for it, blocks are the best
    for all of them together: they need no conversion.
    """
    wanted: dict[str, set[str]] = {name: {BLOCKED} for name in shapes}
    joined: dict[str, str] = {}

    def root(name: str) -> str:
        while name in joined:
            name = joined[name]
        return name

    gains = dict.fromkeys(shapes, 0.0)
    for name, op in [*((name, "pack") for name in inputs), *((name, "unpack") for name in outputs)]:
        gains[name] += _gain(_moves(op, shapes[name], target))
    for call, offered in zip(calls, options, strict=True):
        if len(offered) == 1 and offered[0].reads == offered[0].writes == BLOCKED:
            continue
        for option in offered:
            if call.inputs:
                wanted[call.inputs[0]].add(option.reads)
            for tensor in (*call.inputs[1:], call.output):
                wanted[tensor].add(option.writes)
        for tensor in call.inputs:
            if root(tensor) != root(call.output):
                joined[root(tensor)] = root(call.output)
        gains[call.output] += _gain(offered)
    worthwhile = {root(name) for name, gain in gains.items() if gain > 0}
    return {name: _states(frozenset(wanted[name]), root(name) in worthwhile) for name in shapes}


@lru_cache(maxsize=1024)
def _states(wanted: frozenset[str], worthwhile: bool) -> tuple[tuple[str, ...], ...]:
    allowed = wanted if worthwhile or BLOCKED not in wanted else {BLOCKED}
    return tuple(state for state in STATES if allowed.issuperset(state))


@lru_cache(maxsize=65536)
def _gain(offered: tuple[_Option, ...]) -> float:
    """Cycles that a call can save by touching planes; infinite if it can do nothing else."""
    blocked = [option.cycles for option in offered if option.reads == option.writes == BLOCKED]
    return min(blocked, default=np.inf) - min(option.cycles for option in offered)


@lru_cache(maxsize=65536)
def _moves(op: str, shape: Shape, target: Target) -> tuple[_Option, ...]:
    """Ways to `pack` an input of the network, or to `unpack` an output."""
    layouts = [(BLOCKED, layout) if op == "pack" else (layout, BLOCKED) for layout in LAYOUTS]
    return tuple(_Option(reads, writes, _cycles(op, shape, reads, writes, target)) for reads, writes in layouts)


@lru_cache(maxsize=65536)
def _cycles(op: str, shape: Shape, reads: str, writes: str, target: Target) -> float:
    return schedule(_moving(op, shape, reads, writes), target).cycles


@lru_cache(maxsize=65536)
def _table(
    offered: tuple[_Option, ...],
    operands: tuple[int, ...],
    domains: tuple[tuple[tuple[str, ...], ...], ...],
    copies: tuple[float, float],
) -> Table:
    """Cycles of a call for every state of its tensors, the conversion of its output included if it is to be had twice.

    One axis for each tensor that has a choice.

    Args:
        operands: number of the tensor that each input, and last the output, is.
        domains: states of each tensor.
        copies: cycles of converting the output from blocks, and from planes.
    """
    table = np.full([len(domain) for domain in domains], np.inf)
    for index in np.ndindex(*table.shape):
        states = [domain[i] for domain, i in zip(domains, index, strict=True)]
        wanted = [states[operand] for operand in operands]
        for option in offered:
            if _serves(option, wanted):
                copied = copies[LAYOUTS.index(option.writes)] if len(wanted[-1]) > 1 else 0.0
                table[index] = min(table[index], option.cycles + copied)
    return table.squeeze()


@lru_cache(maxsize=65536)
def _placed(spec: KernelSpec, reads: str, writes: str) -> KernelSpec:
    return replace(spec, reads=reads, writes=writes)


def _serves(option: _Option, states: Sequence[tuple[str, ...]]) -> bool:
    """Whether the first tensor is there as the option reads it, and the others are, or may be, as it writes."""
    return option.reads in states[0] and all(option.writes in state for state in states[1:])


@dataclass(frozen=True)
class _Writer:
    """Writes the calls down once the layouts are known."""

    inputs: Mapping[str, Shape]
    outputs: Sequence[str]
    target: Target
    states: Mapping[str, tuple[str, ...]]

    def calls(self, calls: Sequence[Call], options: Sequence[tuple[_Option, ...]]) -> Iterator[Call]:
        shapes = _shapes(calls, self.inputs)
        numbers = {name: index for index, name in enumerate(self.inputs)}
        native = {name: self.states[name][0] for name in self.inputs}
        """Layout in which a tensor is written; what it is converted to has the layout in its name."""
        packed: set[str] = set()
        last = {call.output: index for index, call in enumerate(calls)}

        def version(tensor: str, layout: str) -> str:
            return tensor if layout == native[tensor] else f"{tensor}@{layout}"

        def pack(tensor: str) -> Iterator[Call]:
            if tensor in numbers and tensor not in packed:
                packed.add(tensor)
                for layout in self.states[tensor]:
                    spec = _moving("pack", shapes[tensor], writes=layout)
                    yield Call(tensor, spec, (user_input(numbers[tensor]),), version(tensor, layout))

        for position, (call, offered) in enumerate(zip(calls, options, strict=True)):
            for tensor in call.inputs:
                yield from pack(tensor)
            wanted = [self.states[name] for name in (*call.inputs, call.output)]
            if call.output in native:
                wanted[-1] = (native[call.output],)
            option = min((o for o in offered if _serves(o, wanted)), key=lambda o: o.cycles)
            spec = _placed(call.spec, option.reads, option.writes)
            reads = tuple(version(name, option.writes if i else option.reads) for i, name in enumerate(call.inputs))
            native[call.output] = option.writes
            yield replace(call, spec=spec, inputs=reads)
            for layout in self.states[call.output]:
                if layout != option.writes and position == last[call.output]:
                    move = _moving("convert", shapes[call.output], option.writes, layout)
                    yield Call(call.layer, move, (call.output,), version(call.output, layout))
        for index, tensor in enumerate(self.outputs):
            yield from pack(tensor)
            specs = {layout: _moving("unpack", shapes[tensor], reads=layout) for layout in self.states[tensor]}
            layout = min(specs, key=lambda name: schedule(specs[name], self.target).cycles)
            yield Call(tensor, specs[layout], (version(tensor, layout),), user_output(index))
