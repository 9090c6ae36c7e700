"""Layouts are chosen for the whole network, and networks that mix them compute what torch computes."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compiler import Call, KernelSpec, compile_model, compile_specs, find_target, local_target, schedule, sequence
from compiler.errors import UnsupportedOperator
from compiler.layout import BLOCKED, LAYOUTS, PLANAR
from pruning import Sparsity, make_scheme

TARGET = local_target()
EIGHT = Sparsity("block_punched(8x4)", 5)


def conv(i: int, o: int, size: int, kernel: int = 3, stride: int = 1, sparsity: Sparsity | None = None) -> KernelSpec:
    padding = (kernel // 2, kernel // 2)
    spec = KernelSpec("conv", i, o, size, size, (kernel, kernel), (stride, stride), padding)
    return spec if sparsity is None else spec.with_sparsity(sparsity)


def cycles(calls: Sequence[Call]) -> float:
    return sum(schedule(call.spec, TARGET).cycles for call in calls)


def chain(*specs: KernelSpec) -> list[Call]:
    return [Call(f"l{i}", spec, (f"t{i}",), f"t{i + 1}") for i, spec in enumerate(specs)]


def shape(spec: KernelSpec) -> tuple[int, int, int]:
    return spec.in_channels, spec.height, spec.width


def cheapest(calls: Sequence[Call], outputs: Sequence[str]) -> float:
    """Least cycles over all layouts of all calls, by trying everything."""
    best = float("inf")
    inputs = {calls[0].inputs[0]: shape(calls[0].spec)}
    for layouts in itertools.product(itertools.product(LAYOUTS, LAYOUTS), repeat=len(calls)):
        fixed = [
            replace(call, spec=replace(call.spec, reads=reads, writes=writes))
            for call, (reads, writes) in zip(calls, layouts, strict=True)
        ]
        try:
            best = min(best, cycles(sequence(fixed, inputs, outputs, TARGET, free=False)))
        except UnsupportedOperator:
            continue
    return best


NETWORKS = {
    "chain": (
        chain(conv(3, 64, 28), conv(64, 64, 28, 3, 1, EIGHT), conv(64, 64, 28, 1, 1, EIGHT), conv(64, 32, 28)),
        ["t4"],
    ),
    "pool between": (
        chain(
            conv(16, 64, 28, 1, 1, EIGHT),
            KernelSpec("max_pool", 64, 64, 28, 28, (2, 2), (2, 2)),
            conv(64, 64, 14, 3, 1, EIGHT),
        ),
        ["t3"],
    ),
    "shortcut": (
        [
            Call("a", conv(16, 64, 28), ("t0",), "a"),
            Call("b", conv(64, 64, 28, 3, 1, EIGHT), ("a",), "b"),
            Call("c", replace(conv(64, 64, 28, 3, 1, EIGHT), epilogue=("add", "relu")), ("b", "a"), "c"),
        ],
        ["c"],
    ),
    "read twice": (
        [
            Call("a", conv(16, 64, 28, 1, 1, EIGHT), ("t0",), "a"),
            Call("b", conv(64, 64, 28, 3, 1, EIGHT), ("a",), "b"),
            Call("c", conv(64, 64, 28, 3, 2), ("a",), "c"),
        ],
        ["b", "c"],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_other_layouts_cost_less(name: str) -> None:
    calls, outputs = NETWORKS[name]
    found = sequence(calls, {"t0": shape(calls[0].spec)}, outputs, TARGET)
    assert cycles(found) == pytest.approx(cheapest(calls, outputs), rel=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kernel_reads_what_was_written_in_its_layout(name: str) -> None:
    calls, outputs = NETWORKS[name]
    written: dict[str, str] = {}
    for call in sequence(calls, {"t0": shape(calls[0].spec)}, outputs, TARGET):
        if call.spec.op != "pack":
            assert written[call.inputs[0]] == call.spec.reads
        for residual in call.inputs[1:]:
            assert written[residual] == call.spec.writes
        assert call.output not in written
        written[call.output] = call.spec.writes


def test_blocks_finer_than_a_vector_are_worth_planes_and_a_conversion() -> None:
    target = find_target("x86_avx512")
    calls = chain(conv(128, 128, 28, 3, 2), *[conv(128, 128, 14, 3, 1, EIGHT)] * 3)
    found = sequence(calls, {"t0": (128, 28, 28)}, ["t4"], target)
    assert [call.spec.op for call in found] == ["pack", "conv", "convert", *["conv"] * 3, "unpack"]
    assert [call.spec.writes for call in found[:-1]] == [found[0].spec.writes, BLOCKED, *[PLANAR] * 4]


def test_dense_networks_stay_in_blocks() -> None:
    calls = chain(conv(16, 64, 28), conv(64, 64, 28), KernelSpec("global_pool", 64, 64, 28, 28))
    found = sequence(calls, {"t0": (16, 28, 28)}, ["t3"], TARGET)
    assert all(call.spec.writes == BLOCKED for call in found if call.spec.op != "pack")


def test_an_input_that_nobody_reads_but_the_user_is_packed() -> None:
    found = sequence([], {"x": (3, 5, 5)}, ["x"], TARGET)
    assert [call.spec.op for call in found] == ["pack", "unpack"]


def prune(module: nn.Module, text: str, rate: float) -> None:
    scheme = make_scheme(text)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and scheme.supports(layer.weight.shape) is None:
            with torch.no_grad():
                layer.weight *= scheme.mask(layer.weight, rate)


class Mixed(nn.Module):
    """Dense, depthwise and pruned layers, shortcuts, pools: every change of layout there is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.depthwise = nn.Sequential(nn.Conv2d(width, width, 5, padding=2, groups=width), nn.Hardswish())
        self.point = nn.Conv2d(width, width, 1)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.classify = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        x = torch.relu(self.second(torch.relu(self.first(x))) + x)
        y = self.point(self.depthwise(x))
        z = self.last(self.pool(y + x))
        return z, self.classify(z.mean((2, 3)))


@pytest.mark.parametrize("scheme", ["block_punched(8x4)", "unstructured", "pattern(4)", "pattern(4, share=16)", "pcnn"])
@pytest.mark.parametrize("width", [37, 64])
def test_networks_that_mix_layouts(scheme: str, width: int) -> None:
    torch.manual_seed(0)
    model = Mixed(width).eval()
    for part in (model.first, model.second, model.point, model.last):
        prune(part, scheme, 7)
    x = torch.randn(2, 3, 30, 26)
    compiled = compile_model(model, x[:1])
    compiled.program._arena[:] = 255  # every float that nobody writes is NaN
    with torch.no_grad():
        for given, wanted in zip(compiled(x), model(x), strict=True):
            assert float((given - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_the_table_shows_layouts_and_conversions() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3, stride=2), *[nn.Conv2d(64, 64, 3, padding=1) for _ in range(3)]).eval()
    for layer in list(model)[1:]:
        prune(layer, f"block_punched({TARGET.vector // 2}x4)", 7)
    table = compile_model(model, torch.randn(1, 3, 41, 41)).kernels
    assert list(table.op) == ["pack", "conv", "convert", "conv", "conv", "conv", "unpack"]
    assert list(table.writes[2:6]) == [PLANAR] * 4
    assert set(table.family[3:6]) == {"pixel_vector"}


def test_compile_specs_keeps_the_layouts_that_are_asked_for() -> None:
    dense = conv(32, 48, 10)
    specs = [
        replace(dense, reads=PLANAR),
        replace(dense.with_sparsity(EIGHT), reads=PLANAR, writes=PLANAR, epilogue=("add", "relu")),
        replace(dense.with_sparsity(Sparsity("pattern(4)", 3)), reads=PLANAR, writes=PLANAR),
        KernelSpec("convert", 20, 20, 9, 7, reads=BLOCKED, writes=PLANAR),
        KernelSpec("convert", 20, 20, 9, 7, reads=PLANAR, writes=BLOCKED),
        KernelSpec("pack", 5, 5, 9, 7, writes=PLANAR),
        KernelSpec("unpack", 5, 5, 9, 7, reads=PLANAR),
        dense,
    ]
    table = compile_specs(specs).kernels
    asked = table[table.spec_index >= 0].sort_values("spec_index")
    assert [KernelSpec.from_dict(row) for _, row in asked.iterrows()] == specs


@pytest.mark.parametrize("channels", [1, 16, 21])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 16), (8, 35)])
def test_conversions_lose_nothing(channels: int, size: tuple[int, int]) -> None:
    """Into blocks, through planes and back: an identity between two poolings, which work on blocks."""

    class Through(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.identity = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            with torch.no_grad():
                self.identity.weight.zero_()
                for index in range(channels):
                    self.identity.weight[index, index, 1, 1] = 1

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.max_pool2d(self.identity(nn.functional.max_pool2d(x, 1)), 1)

    x = torch.randn(2, channels, *size)
    assert torch.equal(compile_model(Through(), x[:1])(x), x)
