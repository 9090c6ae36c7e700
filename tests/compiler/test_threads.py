"""A team of threads computes what one computes, bit by bit, and is no trouble when it is not needed."""

import ctypes
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import compiler.select as select
from compiler import (
    CompiledModel,
    KernelSpec,
    compile_model,
    compile_specs,
    find_target,
    load_compiled,
    local_target,
    schedule,
)
from compiler.capture import capture
from compiler.compile import MOST_THREADS, build, compile_graph
from compiler.errors import UnsupportedThreads
from compiler.graph import Conv, Graph, Node
from compiler.kernels import FAMILIES, FAMILIES_OF, Schedule, base
from compiler.layout import BLOCKED, PLANAR
from compiler.passes import PASSES
from compiler.plan import make_plan, scratch_name
from compiler.select import offers, shared
from compiler.structure import structure_of
from compiler.target import Target
from pruning import Sparsity, make_scheme

ROOT = Path(__file__).parents[2]
LOCAL = local_target()
MANY_REGISTERS = replace(LOCAL, name="many_registers", registers=32, accumulators=28)
"""So that panels are offered; where there are fewer registers, the compiler spills."""


@contextmanager
def every_kernel_shared() -> Iterator[None]:
    """Kernels are shared however small they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "THREAD_CYCLES", 1e-3)
        patch.setattr(base, "MEETING_CYCLES", 0.0)
        forget_choices()
        try:
            yield
        finally:
            forget_choices()


def forget_choices() -> None:
    """Schedules that were chosen with other constants."""
    for known in (shared, schedule):
        known.cache_clear()


def poisoned(compiled: CompiledModel, *inputs: Tensor) -> tuple[np.ndarray, ...]:
    """Outputs, when every float that nobody writes is NaN."""
    compiled.program._arena[:] = 255
    outputs = compiled(*(x.numpy() for x in inputs))
    return outputs if isinstance(outputs, tuple) else (outputs,)


def alone(compiled: CompiledModel, *inputs: Tensor) -> tuple[np.ndarray, ...]:
    """What the same code computes without a team, on one thread."""
    program = compiled.program
    program._arena[:] = 255
    run = ctypes.CDLL(str(program.library)).npas_run
    run.restype, run.argtypes = None, [ctypes.c_void_p] * 5
    outputs = [np.empty((1, *shape), np.float32) for shape in program.signature.outputs]
    arrays = [np.ascontiguousarray(x.numpy()) for x in inputs]
    ins = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    outs = (ctypes.c_void_p * len(outputs))(*(array.ctypes.data for array in outputs))
    run(ins, outs, program._arena.ctypes.data, program.constants.ctypes.data, None)
    return tuple(outputs)


def same_bits(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> bool:
    return all((a.view(np.uint32) == b.view(np.uint32)).all() for a, b in zip(found, expected, strict=True))


def relative_error(found: np.ndarray, expected: Tensor) -> float:
    return float((torch.as_tensor(found) - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


class Everything(nn.Module):
    """Every operator, in shapes that no number of threads divides."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        wide = 2 * channels + 3
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels), nn.Hardswish()
        )
        self.point = nn.Conv2d(channels, channels, 1)
        self.down = nn.Sequential(nn.Hardsigmoid(), nn.Conv2d(channels, wide, 3, stride=2, padding=1))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, wide, 1), nn.Hardsigmoid())
        self.pools = nn.ModuleList(
            [nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(2, 1, count_include_pad=False), nn.AvgPool2d(3, 2, 1)]
        )
        self.last = nn.Linear(wide, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        x = F.hardtanh(self.point(x + self.depthwise(x)) + x, 0.0, 6.0)
        y = self.down(x)
        y = self.gate(y) * y
        y = y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, y.shape[1] - x.shape[1] - 2))
        for pool in self.pools:
            y = pool(y)
        return y, self.last(y.mean((2, 3)))


@settings(max_examples=3, deadline=None)
@given(
    channels=st.integers(1, 41),
    kernel=st.sampled_from([3, 5, 7]),
    size=st.tuples(st.integers(8, 25), st.integers(8, 25)),
)
def test_every_operator_gives_the_same_bits_on_any_number_of_threads(
    channels: int, kernel: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(channels)
    check_network(Everything(channels, kernel).eval(), torch.randn(1, 3, *size), least=0.5)


def check_network(model: nn.Module, x: Tensor, least: float) -> None:
    """Compare 1 to 4 threads; of the kernels `least` are shared."""
    graph = capture(model, (x,))
    for transform in PASSES:
        graph = transform(graph)
    one = poisoned(compile_graph(graph), x)
    with torch.no_grad():
        expected = model(x)
    assert all(relative_error(found, wanted) <= 2e-5 for found, wanted in zip(one, expected, strict=True))
    for threads in (2, 3, 4):
        with every_kernel_shared():
            compiled = compile_graph(graph, threads=threads)
        assert compiled.kernels["threads"].max() == threads
        assert (compiled.kernels["threads"] > 1).mean() > least
        assert same_bits(poisoned(compiled, x), one)
        assert same_bits(alone(compiled, x), one)


class Rest(nn.Module):
    """Operators of transformers, and windows and grids of any size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, 3 * channels)
        self.recurrent = nn.GRU(channels, 9, batch_first=True)
        self.groups = nn.GroupNorm(1, channels)
        self.pool = nn.AdaptiveMaxPool2d((3, 5))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        q, k, v = self.project(tokens).chunk(3, 2)
        mixed = torch.softmax(q @ k.transpose(1, 2) * 0.3, 2) @ v
        wide = F.interpolate(self.groups(x), size=(19, 23), mode="bilinear", align_corners=False)
        return mixed, mixed.amax(2), self.recurrent(mixed)[0], wide, self.pool(x), F.adaptive_avg_pool2d(x, 4)


@settings(max_examples=2, deadline=None)
@given(channels=st.integers(4, 37), size=st.tuples(st.integers(5, 9), st.integers(5, 13)))
@example(channels=17, size=(9, 13))  # with vectors of 16, four threads may have two pieces where two have one
def test_other_operators_give_the_same_bits_on_any_number_of_threads(channels: int, size: tuple[int, int]) -> None:
    torch.manual_seed(channels)
    check_network(Rest(channels).eval(), torch.randn(1, channels, *size), least=0.2)


class Pairs(nn.Module):
    """All functions of two tensors, whose features lie in vectors since linear layers write and read them."""

    def __init__(self) -> None:
        super().__init__()
        self.above, self.below, self.last = nn.Linear(20, 70), nn.Linear(20, 70), nn.Linear(70, 24)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first, second = self.above(x).abs() + 0.1, self.below(x).abs() + 0.1
        functions = (torch.div, torch.pow, torch.mul, torch.sub, torch.maximum, torch.minimum)
        return tuple(self.last(function(first, second)) for function in functions)


def test_functions_of_two_tensors_are_not_mistaken_for_those_of_the_c_library() -> None:
    torch.manual_seed(0)
    check_network(Pairs().eval(), torch.randn(1, 9, 20), least=0.2)


def one_kernel(
    spec: KernelSpec, weight: Tensor, bias: Tensor, threads: int, index: int, target: Target
) -> CompiledModel:
    """One convolution on as many of the threads as can be, by one of its schedules."""
    shape = (spec.out_channels, *spec.out_size)
    inputs = {"x": (spec.in_channels, spec.height, spec.width)}
    inputs |= {"r": shape} if "add" in spec.epilogue else {}
    op = Conv("w", "b", spec.stride, spec.padding, spec.dilation, spec.groups, spec.epilogue)
    node = Node("y", op, tuple(inputs), shape)
    graph = Graph(inputs, (node,), ("y",), (shape,), {"w": weight.numpy(), "b": bias.numpy()})

    def choose(other: KernelSpec, target: Target) -> Schedule:
        if other.op != spec.op:
            return schedule(other, target)
        offered = sorted(offers(other, target), key=lambda offer: offer.cycles)
        return offered[index % len(offered)]

    with every_kernel_shared():
        return build(make_plan(graph, target, threads, choose, {"y": (spec.reads, spec.writes)}))


def check_kernel(spec: KernelSpec, weight: Tensor, threads: int, index: int, target: Target = LOCAL) -> str:
    """Compare a schedule's results with torch's, and with its own on one thread; returns its family."""
    generator = torch.Generator().manual_seed(index)
    bias = torch.randn(spec.out_channels, generator=generator)
    x = torch.randn(1, spec.in_channels, spec.height, spec.width, generator=generator)
    y = F.conv2d(x, weight, bias, spec.stride, spec.padding, spec.dilation, spec.groups)
    given_, largest = [x], max(1.0, float(y.abs().max()))
    if "add" in spec.epilogue:
        given_.append(torch.randn(y.shape, generator=generator))
        y = y + given_[1]
    y = F.relu(y) if "relu" in spec.epilogue else y
    compiled = one_kernel(spec, weight, bias, threads, index, target)
    found = poisoned(compiled, *given_)
    row = compiled.kernels[compiled.kernels["op"] == spec.op].iloc[0]
    assert float((torch.as_tensor(found[0]) - y).abs().max()) <= 3e-5 * largest, row
    if compiled.program.signature.threads > 1:
        assert same_bits(found, alone(compiled, *given_)), row
    return str(row["family"])


def masked(shape: tuple[int, ...], scheme: str, seed: int) -> Tensor:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    chosen = make_scheme(scheme)
    return weight if scheme == "dense" or chosen.supports(shape) is not None else weight * chosen.mask(weight, 3.0)


kernel_shapes = {
    "channels": st.tuples(st.integers(1, 70), st.integers(1, 70)),
    "size": st.tuples(st.integers(4, 30), st.integers(4, 37)),
    "epilogue": st.sampled_from([(), ("relu",), ("add", "relu")]),
    "threads": st.integers(2, 4),
    "index": st.integers(0, 10_000),
}


@settings(max_examples=12, deadline=None)
@given(
    **kernel_shapes,
    scheme=st.sampled_from(["dense", "filter", "block_punched(16x1)", "block_kernel(16x1)", "unstructured"]),
    stride=st.integers(1, 2),
)
def test_any_schedule_on_blocks(
    channels: tuple[int, int],
    size: tuple[int, int],
    epilogue: tuple[str, ...],
    threads: int,
    index: int,
    scheme: str,
    stride: int,
) -> None:
    weight = masked((channels[1], channels[0], 3, 3), scheme, index)
    spec = KernelSpec("conv", *channels, *size, (3, 3), (stride, stride), (1, 1), epilogue=epilogue)
    check_kernel(replace(spec, sparsity=structure_of(weight.numpy())), weight, threads, index)


@settings(max_examples=12, deadline=None)
@given(
    **kernel_shapes,
    scheme=st.sampled_from(["dense", "block_punched(8x4)", "unstructured", "pattern(4)"]),
    target=st.sampled_from([LOCAL, MANY_REGISTERS]),
)
def test_any_schedule_on_planes(
    channels: tuple[int, int],
    size: tuple[int, int],
    epilogue: tuple[str, ...],
    threads: int,
    index: int,
    scheme: str,
    target: Target,
) -> None:
    weight = masked((channels[1], channels[0], 3, 3), scheme, index)
    spec = KernelSpec("conv", *channels, *size, (3, 3), (1, 1), (1, 1), epilogue=epilogue)
    spec = replace(spec, sparsity=structure_of(weight.numpy()), reads=PLANAR, writes=PLANAR)
    check_kernel(spec, weight, threads, index, target)


def form_of(offer: Schedule) -> tuple[object, ...]:
    """What decides which code of a kernel splits the work."""
    return offer.family, offer.blocks_shared, offer.blocks_outside, offer.chunk > 0, offer.group > 1


@pytest.mark.parametrize("layout", [BLOCKED, PLANAR])
@pytest.mark.parametrize("size", [(6, 5), (17, 23), (40, 36)])
def test_every_way_to_share_a_convolution(layout: str, size: tuple[int, int]) -> None:
    """Filter blocks or tiles, the one or the other outside, in chunks and groups, with and without overlapping rows."""
    weight = masked((40, 64, 3, 3), "pattern(4)" if layout == PLANAR else "block_kernel(16x1)", 0)
    spec = KernelSpec("conv", 64, 40, *size, (3, 3), padding=(1, 1), epilogue=("relu",), reads=layout, writes=layout)
    spec = replace(spec, sparsity=structure_of(weight.numpy()))
    for threads in (2, 3):
        offered = sorted(offers(replace(spec, threads=threads), MANY_REGISTERS), key=lambda offer: offer.cycles)
        numbers = {form_of(offer): index for index, offer in enumerate(offered)}
        assert len(numbers) > 1
        for form, index in numbers.items():
            assert check_kernel(spec, weight, threads, index, MANY_REGISTERS) == form[0]


@pytest.mark.parametrize("width", range(1, 20))
def test_rows_that_are_written_over_each_others_ends_are_not_shared(width: int) -> None:
    """A vector of a narrow image reaches into the next row: whole filters are one thread's."""
    spec = KernelSpec("conv", 8, 16, 40, width, (3, 3), padding=(1, 1), sparsity=Sparsity("unstructured", 3.0))
    spec = replace(spec, threads=2, reads=PLANAR, writes=PLANAR)
    panels = list(FAMILIES["pixel_panel"].candidates(spec, MANY_REGISTERS))
    assert panels
    assert {offer.blocks_shared for offer in panels} == {width < MANY_REGISTERS.vector}


LARGE = {
    "conv": KernelSpec("conv", 64, 64, 56, 56, (3, 3), padding=(1, 1), sparsity=Sparsity("pattern(4)", 3.0)),
    "depthwise": KernelSpec("depthwise", 64, 64, 56, 56, (3, 3), padding=(1, 1), groups=64),
    "linear": KernelSpec("linear", 512, 512, 1, 1),
    **{op: KernelSpec(op, 64, 64, 56, 56, (2, 2), (2, 2)) for op in ("max_pool", "avg_pool", "avg_pool_valid")},
}
"""A kernel of much work for each operation; for the others it has no shape of its own."""
ON_ONE_THREAD = ("constant", "embedding", "gather", "over_groups", "recurrent")
"""Families whose work is not shared yet."""


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - set(ON_ONE_THREAD)))
def test_sharing_pays_in_every_family_that_can(family: str) -> None:
    compared = 0
    for op in (op for op, names in FAMILIES_OF.items() if family in names):
        for reads, writes in FAMILIES[family].layouts:
            spec = replace(LARGE.get(op, KernelSpec(op, 64, 64, 56, 56)), reads=reads, writes=writes)
            one = min((offer.cycles for offer in FAMILIES[family].candidates(spec, MANY_REGISTERS)), default=None)
            if one is not None:
                two = FAMILIES[family].candidates(replace(spec, threads=2), MANY_REGISTERS)
                least = min(offer.cycles for offer in two if offer.pieces >= 2)
                assert one / 2 < least < 0.7 * one + 2 * base.MEETING_CYCLES, spec
                compared += 1
    assert compared


def test_small_kernels_stay_on_one_thread_and_the_table_says_so() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 40, 3, padding=1), nn.AdaptiveAvgPool2d(1))
    table = compile_model(model, torch.randn(1, 3, 32, 32), threads=3).kernels.set_index("op")
    assert table.loc["conv", "threads"].tolist() == [3, 3]
    assert table.loc[["global_pool", "unpack"], "threads"].tolist() == [1, 1]
    alone = {name: row["cycles"] for name, row in table.iterrows() if row["threads"] == 1}
    assert max(alone.values()) < 2 * select.THREAD_CYCLES


def test_a_kernel_takes_no_more_threads_than_its_work_is_worth() -> None:
    spec = KernelSpec("conv", 32, 32, 16, 16, (3, 3), padding=(1, 1))
    cycles = schedule(spec, LOCAL).cycles
    for threads in (1, 2, 3, 64):
        found = shared(spec, threads, LOCAL).threads
        assert found <= max(1, min(threads, cycles / select.THREAD_CYCLES))
        assert schedule(replace(spec, threads=found), LOCAL).pieces >= found
    assert shared(spec, 2, LOCAL).threads == 2


def test_threads_that_would_each_do_almost_all_of_the_work_are_not_taken() -> None:
    spec, target = KernelSpec("conv", 65, 1, 8, 8, (3, 3), padding=(1, 1)), find_target("x86_avx512")
    assert schedule(spec, target).cycles > 3 * select.THREAD_CYCLES
    assert shared(spec, 3, target).threads < 3


@settings(max_examples=30, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    size=st.integers(1, 60),
    scheme=st.sampled_from(["dense", "block_punched(16x1)", "block_kernel(16x1)", "unstructured"]),
    layout=st.sampled_from([BLOCKED, PLANAR]),
    threads=st.integers(2, 16),
)
def test_the_choice_knows_the_threads_but_adds_up_as_on_one(
    channels: tuple[int, int], size: int, scheme: str, layout: str, threads: int
) -> None:
    spec = KernelSpec("conv", *channels, size, size, (3, 3), padding=(1, 1), reads=layout, writes=layout)
    spec = spec.with_sparsity(Sparsity(scheme, 3.0 if scheme != "dense" else 1.0))
    one, many = schedule(spec, LOCAL), schedule(shared(spec, threads, LOCAL), LOCAL)
    family = FAMILIES[one.family]
    assert (many.family, family.order_of_sums(many)) == (one.family, family.order_of_sums(one))
    assert many.cycles <= one.cycles


def test_each_thread_has_working_memory_of_its_own() -> None:
    model, x = (
        nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)),
        torch.randn(1, 64, 28, 28),
    )
    graph = capture(model, (x,))
    plan = make_plan(graph, LOCAL, 3)
    used = [index for index, step in enumerate(plan.steps) if step.scratch and step.spec.threads == 3]
    assert used
    for index in used:
        step, first = plan.steps[index], plan.offsets[scratch_name(index, 3)]
        last = first + 3 * plan.private
        assert plan.private >= step.scratch
        assert last <= plan.arena
        for name in {*step.reads, step.writes} & plan.offsets.keys():
            begin, end = plan.offsets[name], plan.offsets[name] + 4 * plan.buffers[name].size
            assert end <= first or last <= begin


@pytest.mark.parametrize("threads", [0, -1, MOST_THREADS + 1])
def test_impossible_numbers_of_threads_are_refused(threads: int) -> None:
    with pytest.raises(UnsupportedThreads, match=rf"{threads} threads .* from 1 to {MOST_THREADS}"):
        compile_model(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8), threads=threads)


def test_kernels_of_a_threaded_network_can_be_measured_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 1), nn.AdaptiveAvgPool2d(1))
    specs = compile_model(model, torch.randn(1, 3, 32, 32), threads=2).specs
    assert {spec.threads for spec in specs} == {1, 2}
    table = compile_specs(specs).kernels
    asked = table[table.spec_index >= 0].sort_values("spec_index")
    assert [KernelSpec.from_dict(row) for _, row in asked.iterrows()] == list(specs)
    with pytest.raises(UnsupportedThreads, match="asks for 2 threads"):
        compile_specs([KernelSpec("conv", 8, 8, 4, 4, threads=2)])
    with pytest.raises(UnsupportedThreads, match="fewer than 64 pieces"):
        schedule(KernelSpec("conv", 8, 8, 4, 4, threads=64), LOCAL)


def small_network(threads: int, seed: int = 0) -> tuple[CompiledModel, Tensor]:
    """Kernels that are shared and kernels that are not, in turn."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.MaxPool2d(4), nn.Conv2d(32, 48, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 5)),
    )
    return compile_model(model, torch.randn(1, 3, 40, 40), threads=threads), torch.randn(1, 3, 40, 40)


@pytest.mark.parametrize("threads", [2, 5])
def test_hundreds_of_runs_give_the_same_bits(threads: int) -> None:
    """Also more threads than there are cores, and runs that come when the team has gone to sleep."""
    compiled, x = small_network(threads)
    assert set(compiled.kernels["threads"]) > {1}
    first = poisoned(compiled, x)
    for turn in range(300):
        if turn % 100 == 99:
            time.sleep(0.01)
        assert same_bits(poisoned(compiled, x), first)


def test_two_networks_in_turn_and_from_two_python_threads() -> None:
    networks = [small_network(2, seed) for seed in (0, 1)]
    expected = [alone(*network) for network in networks]
    wrong: list[int] = []

    def runs(which: int, count: int) -> None:
        compiled, x = networks[which]
        for _ in range(count):
            if not same_bits((compiled(x.numpy()),), expected[which]):
                wrong.append(which)

    for turn in range(40):
        runs(turn % 2, 1)
    callers = [threading.Thread(target=runs, args=(which, 40)) for which in (0, 1, 0)]  # one network has two callers
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
    assert wrong == []


def test_timing_covers_every_kernel_of_a_team() -> None:
    compiled, _ = small_network(2)
    timing = compiled.time(seconds=0.05, min_runs=3)
    assert (timing.kernel_us >= 0).all()
    assert compiled.kernels["measured_us"].notna().all()


def test_a_team_treats_denormal_numbers_as_its_caller_does() -> None:
    model = nn.Conv2d(16, 16, 1, bias=False)
    nn.init.constant_(model.weight, 1e-20)
    x = torch.full((1, 16, 64, 64), 1e-20)
    compiled = compile_model(model, x, threads=2)
    assert compiled.kernels["threads"].max() == 2
    assert (compiled(x) > 0).all()
    if not torch.set_flush_denormal(True):
        pytest.skip("torch cannot flush denormal numbers on this processor")
    try:
        flushed = compiled(x.numpy())
    finally:
        torch.set_flush_denormal(False)
    assert (flushed.view(np.uint32) == 0).all()
    assert (compiled(x) > 0).all()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("threads")
    compiled, x = small_network(3)
    compiled.save(folder / "saved")
    np.save(folder / "x.npy", x.numpy())
    np.save(folder / "y.npy", alone(compiled, x)[0])
    return folder


def in_a_process(saved: Path, code: str) -> None:
    """Run `code` in a process that has loaded the network of three threads; it must end by itself, and well."""
    start = f"""
    import gc, os, sys, threading, time, warnings
    import numpy as np
    from compiler import load_compiled
    from compiler.errors import ThreadsUnavailable
    warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process that has threads
    model = load_compiled({str(saved / "saved")!r})
    x, y = np.load({str(saved / "x.npy")!r}), np.load({str(saved / "y.npy")!r})
    def right():
        return (model(x) == y).all()
    def threads():
        return len(os.listdir("/proc/self/task"))
    before = threads()
    """
    text = textwrap.dedent(start) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, timeout=120, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")


def test_a_saved_network_keeps_its_threads(saved: Path) -> None:
    loaded = load_compiled(saved / "saved")
    assert loaded.program.signature.threads == 3
    assert loaded.kernels["threads"].max() == 3
    assert (loaded(np.load(saved / "x.npy")) == np.load(saved / "y.npy")).all()


@linux
def test_a_team_starts_with_the_first_run_and_ends_with_its_network(saved: Path) -> None:
    in_a_process(
        saved,
        """
        assert threads() == before
        assert right() and right()
        assert threads() == before + 2
        time.sleep(0.1)  # asleep
        del model
        gc.collect()
        assert threads() == before
        """,
    )


@linux
def test_an_idle_team_costs_nothing(saved: Path) -> None:
    in_a_process(
        saved,
        """
        assert right()
        time.sleep(0.2)
        cpu = time.process_time()
        time.sleep(1.0)
        assert time.process_time() - cpu < 0.5
        assert right()
        """,
    )


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "os._exit(0)",
        "keep = model.run_once()",
        "keep = [model]; keep.append(keep)",
        "threading.Thread(target=lambda: [right() for _ in range(10 ** 9)], daemon=True).start(); time.sleep(0.05)",
    ],
)
def test_a_process_ends_while_its_teams_live(saved: Path, ending: str) -> None:
    in_a_process(saved, f"assert right()\n{ending}")


@pytest.mark.parametrize("asleep", [False, True])
def test_a_forked_process_has_a_team_of_its_own(saved: Path, asleep: bool) -> None:
    in_a_process(
        saved,
        f"""
        assert right()
        time.sleep({0.1 * asleep})
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                for _ in range(20):
                    assert right()
                del model  # ends this process's team, or what is left of its parent's
                gc.collect()
                os._exit(7)
            children.append(child)
        assert right()
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [7, 7, 7]
        unused = os.fork()
        if unused == 0:
            del model
            gc.collect()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(unused, 0)[1]) == 7
        assert right()
        """,
    )


@linux
def test_threads_that_cannot_be_started_are_an_error_and_may_be_tried_again(saved: Path) -> None:
    in_a_process(
        saved,
        """
        import resource
        run = model.run_once()
        pages = int(open("/proc/self/statm").read().split()[0])
        limits = resource.getrlimit(resource.RLIMIT_AS)
        for spare in (1, 12):  # megabytes: for the stack of no thread, and of one
            resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGESIZE") + spare * 2 ** 20, limits[1]))
            try:
                run()
            except ThreadsUnavailable as error:
                assert "2 threads could not be started" in str(error)
            else:
                raise AssertionError("it ran")
            assert threads() == before
        resource.setrlimit(resource.RLIMIT_AS, limits)
        assert right()
        """,
    )
