"""`compile_model`: capture, passes, plan, code, library."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from compiler.capture import capture
from compiler.compiled import CompiledModel
from compiler.emit import constants, driver, kernel_codes
from compiler.errors import UnsupportedOperator, UnsupportedThreads
from compiler.graph import (
    Activation,
    Add,
    Array,
    Conv,
    GlobalPool,
    Graph,
    Node,
    Op,
    Pool,
    Relayout,
    Scale,
    Shape,
)
from compiler.kernels.epilogue import header
from compiler.layout import BLOCKED
from compiler.listing import Listing
from compiler.passes import PASSES, Pass
from compiler.plan import Plan, Step, make_plan
from compiler.runtime import Program, Signature, require_here
from compiler.spec import CONVOLUTIONS, KernelSpec
from compiler.target import Target, find_target
from compiler.toolchain import build_library, compiler_version, find_compiler
from compiler.tune import Records, tune_kernels

MOST_THREADS = 64
"""More would hardly find work, and meet slowly."""


def compile_model(
    model: nn.Module,
    example_inputs: Sequence[Any] | torch.Tensor,
    device: str | Target = "local",
    threads: int = 1,
    *,
    tune: bool = False,
    passes: Sequence[Pass] = PASSES,
) -> CompiledModel:
    """Compile a network, in evaluation mode, to native code specialised to the sparsity of its weights.

    Args:
        model: any module that `torch.export` captures and whose operators are supported; left as it was.
        example_inputs: tensors [N, ...]. The batch size may differ later, the rest may not. Tensors in lists and
            dictionaries are handed over one by one to the compiled network, which also returns a flat tuple. Whole
            numbers are computed with as floats, exactly up to 2^24: larger inputs are refused, but larger products and
            sums of them are rounded, which matters to remainders, such as of a hash.
        device: name of a target (`local`, `x86_avx2`, `aarch64_neon`, ...), or a target. For a processor of another
            family a cross compiler is needed, see `find_compiler`; such a network can be saved and be built as a
            program, but neither called nor timed here.
        threads: threads that share the work of a kernel, at most 64. Kernels of less than about 4 microseconds stay on
            one; `kernels["threads"]` shows it. The results have the same bits for any number (but `tune` may choose
            other kernels for another number). More than there are cores work, slowly.
        tune: time a few schedules of every kernel inside this network, and use the fastest. What was found is kept in
            the cache, so that only kernels never seen before cost time.
        passes: rewrites of the graph. `passes.WIDTH_KEEPING` leaves channels in place that the weights make dead, so
            that which kernels there are does not depend on values.

    Raises:
        UnsupportedOperator, CaptureFailed, InvalidWeights, UnsupportedThreads: the network cannot be compiled.
        CompilerMissing, CompilationFailed, CacheUnwritable: the C compiler cannot be used.
        CannotRunHere: kernels were to be tuned for a processor that is not this one.
    """
    if isinstance(example_inputs, torch.Tensor):
        example_inputs = (example_inputs,)
    graph = capture(model, example_inputs)
    for transform in passes:
        graph = transform(graph)
    return compile_graph(graph, device, threads, tune=tune)


def compile_graph(
    graph: Graph, device: str | Target = "local", threads: int = 1, *, tune: bool = False
) -> CompiledModel:
    """Compile a graph on which the passes have run; see `compile_model`."""
    target = find_target(device)
    if not 1 <= threads <= MOST_THREADS:
        raise UnsupportedThreads(f"{threads} threads were asked for; pass a number from 1 to {MOST_THREADS}")
    if tune:
        require_here(target)
        records = Records(target)
        tune_kernels(lambda choose: build(make_plan(graph, target, threads, choose)), records)
        return build(make_plan(graph, target, threads, records.choose))
    return build(make_plan(graph, target, threads))


def build(plan: Plan, spec_index: Mapping[int, int] | None = None) -> CompiledModel:
    """Generate, compile and load the code of a plan; `spec_index` maps steps to the specs that were asked for."""
    target = plan.target
    codes, head, main = kernel_codes(plan), header(target), driver(plan)
    library = build_library([head + code.shared + code.source for code in codes], head + main, target)
    signature = Signature(plan.inputs, plan.outputs, plan.types, plan.arena, len(plan.steps), plan.threads)
    rows = tuple(_row(step, (spec_index or {}).get(index, -1)) for index, step in enumerate(plan.steps))
    shared = dict.fromkeys(code.shared for code in codes)
    source = "\n".join([head, *shared, *(code.source for code in codes), main])
    compiler = find_compiler(target)
    listing = Listing(shlex.join(compiler), compiler_version(compiler), rows, source, plan.live)
    return CompiledModel(Program(library, constants(plan), signature, target), listing)


def _row(step: Step, spec_index: int) -> dict[str, Any]:
    chosen = step.schedule
    described = {
        "family": chosen.family,
        "form": chosen.form,
        "tile": chosen.tile,
        "why": chosen.why,
        "code": step.code.name,
    }
    costs = {"cycles": chosen.cycles, "bytes": chosen.bytes, "spec_index": spec_index}
    return {"layer": step.layer, **step.spec.to_dict(), **described, **costs}


def compile_specs(specs: Sequence[KernelSpec], device: str | Target = "local", seed: int = 0) -> CompiledModel:
    """One network that holds exactly the given kernels, in their order, with random weights, equal specs the same ones.

    Every kernel's inputs are written just before it, as by a predecessor. `kernels["spec_index"]` tells which row
    is which of `specs`, and is -1 for what was added around them. Specs with several threads are those that a network
    compiled for as many has.

    Raises:
        UnsupportedThreads: if a spec asks for more threads than its work is worth, or has pieces for.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs: dict[str, Shape] = {}
    weights: dict[str, Array] = {}
    nodes: list[Node] = []
    layouts: dict[str, tuple[str, str]] = {}
    outputs: list[str] = []
    ops: dict[KernelSpec, Op] = {}
    for index, spec in enumerate(specs):
        if spec not in ops:
            ops[spec] = _op_of(spec, f"w{index}", weights, generator)
        op = ops[spec]
        operands = [f"x{index}"]
        inputs[f"x{index}"] = (spec.in_channels, spec.height, spec.width)
        if spec.op == "scale" or "add" in spec.epilogue:
            operands.append(f"r{index}")
            size = (1, 1) if spec.op == "scale" else spec.out_size
            inputs[f"r{index}"] = (spec.out_channels, *size)
        if spec.op == "unpack":
            outputs.append(f"y{index}")
        nodes.append(Node(f"y{index}", op, tuple(operands), (spec.out_channels, *spec.out_size), f"spec{index}"))
        layouts[f"y{index}"] = {
            "pack": (spec.writes, BLOCKED),
            "unpack": (spec.reads, spec.reads),
        }.get(spec.op, (spec.reads, spec.writes))
    outputs = outputs or [nodes[-1].name]
    shapes = {node.name: node.shape for node in nodes}
    graph = Graph(inputs, tuple(nodes), tuple(outputs), tuple(shapes[name] for name in outputs), weights)
    threads = max((spec.threads for spec in specs), default=1)
    plan = make_plan(graph, find_target(device), threads, layouts=layouts)
    wanted = {_layer_of(spec, index): index for index, spec in enumerate(specs)}
    rows = {at: wanted[key] for at, step in enumerate(plan.steps) if (key := (step.spec.op, step.layer)) in wanted}
    for at, index in rows.items():
        found, asked = plan.steps[at].spec.threads, specs[index].threads
        if found != asked:
            raise UnsupportedThreads(
                f"{specs[index]} asks for {asked} threads; on a network of {threads} it gets {found}: ask for {found}"
            )
    return build(plan, rows)


def _layer_of(spec: KernelSpec, index: int) -> tuple[str, str]:
    """Operation and layer name of the step that a spec becomes."""
    return spec.op, {"pack": f"x{index}", "unpack": f"y{index}"}.get(spec.op, f"spec{index}")


def _op_of(spec: KernelSpec, name: str, weights: dict[str, Array], generator: torch.Generator) -> Op:
    """The operator of a spec, its random weights added to `weights`.

    Where the user's arrays are moved, a 1x1 convolution reads what `pack` wrote, or writes what `unpack` reads.
    """
    if spec.op in ("pack", "unpack"):
        weights[name] = torch.randn(spec.in_channels, spec.in_channels, 1, 1, generator=generator).numpy()
        return Conv(name)
    if spec.op in CONVOLUTIONS:
        weight = torch.randn(spec.weight_shape, generator=generator)
        if spec.sparsity.rate > 1:
            weight = weight * spec.sparsity.scheme.mask(weight, spec.sparsity.rate)
        weights[name] = weight.numpy()
        return Conv(name, None, spec.stride, spec.padding, spec.dilation, spec.groups, spec.epilogue)
    if spec.op in POOLINGS - {"global_pool"}:
        return Pool(spec.op[:3], spec.kernel, spec.stride, spec.padding, spec.op != "avg_pool_valid")
    simple: dict[str, Op] = {
        "global_pool": GlobalPool(),
        "add": Add(spec.epilogue[1:]),
        "scale": Scale(spec.epilogue),
        "activation": Activation("".join(spec.epilogue)),
        "convert": Relayout(),
    }
    if spec.op not in simple:
        raise UnsupportedOperator(
            f"{spec.op} kernels depend on more than their spec; compiled alone are {', '.join(sorted(SELF_CONTAINED))}"
        )
    return simple[spec.op]


POOLINGS = frozenset({"max_pool", "avg_pool", "avg_pool_valid", "global_pool"})
SELF_CONTAINED = CONVOLUTIONS | POOLINGS | {"add", "scale", "activation", "convert", "pack", "unpack"}
"""Operations whose kernels follow from their specs, so that `compile_specs` can make them."""
