"""Code for aarch64, compiled here and run under an emulator, computes what torch computes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compiler import CompiledModel, KernelSpec, Target, compile_model, find_target, local_target, schedule
from compiler.compile import build
from compiler.errors import CannotRunHere
from compiler.graph import Activation, Add, Conv, GlobalPool, Graph, Node, Op, Pool, Relayout, Scale
from compiler.kernels import FAMILIES, Schedule
from compiler.layout import BLOCKED, PLANAR
from compiler.plan import make_plan
from compiler.select import offers
from compiler.structure import structure_of
from compiler.target import local_architecture
from pruning import make_scheme

RunProgram = Callable[[CompiledModel, Sequence[Tensor]], list[np.ndarray]]

NEON = find_target("aarch64_neon")
ACTIVATIONS = {"relu": F.relu, "relu6": F.relu6, "hard_swish": F.hardswish, "hard_sigmoid": F.hardsigmoid}
IN_BLOCKS, IN_PLANES = (BLOCKED, BLOCKED), (PLANAR, PLANAR)


class Case:
    """One kernel: a spec, the scheme that its weight is masked by, and what torch computes."""

    def __init__(self, spec: KernelSpec, scheme: str = "dense", seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.spec = spec
        self.weight = torch.randn(spec.weight_shape or (0,), generator=generator)
        if scheme != "dense":
            self.weight *= make_scheme(scheme).mask(self.weight, 3.0)
        self.bias = torch.randn(spec.out_channels, generator=generator)
        self.x = torch.randn(1, spec.in_channels, spec.height, spec.width, generator=generator)
        size = (1, 1) if spec.op == "scale" else spec.out_size
        self.r = torch.randn(1, spec.out_channels, *size, generator=generator)
        self.binary = spec.op == "scale" or "add" in spec.epilogue

    def op(self, name: str) -> Op:
        spec = self.spec
        match spec.op:
            case "conv" | "linear" | "depthwise":
                geometry = (spec.stride, spec.padding, spec.dilation, spec.groups, spec.epilogue)
                return Conv(f"w{name}", f"b{name}", *geometry)
            case "max_pool" | "avg_pool" | "avg_pool_valid":
                return Pool(spec.op[:3], spec.kernel, spec.stride, spec.padding, spec.op != "avg_pool_valid")
            case "global_pool":
                return GlobalPool()
            case "add":
                return Add(spec.epilogue[1:])
            case "scale":
                return Scale(spec.epilogue)
            case "activation":
                return Activation(*spec.epilogue)
            case "convert":
                return Relayout()
        raise AssertionError(f"no case for {spec.op}")

    def expected(self) -> Tensor:
        spec = self.spec
        window = (spec.kernel, spec.stride, spec.padding)
        match spec.op:
            case "conv" | "linear" | "depthwise":
                geometry = (spec.stride, spec.padding, spec.dilation, spec.groups)
                y = F.conv2d(self.x, self.weight, self.bias, *geometry)
            case "max_pool":
                y = F.max_pool2d(self.x, *window)
            case "avg_pool" | "avg_pool_valid":
                y = F.avg_pool2d(self.x, *window, count_include_pad=spec.op == "avg_pool")
            case "global_pool":
                y = self.x.mean((2, 3), keepdim=True)
            case "scale":
                y = self.x * self.r
            case _:
                y = self.x
        for part in spec.epilogue:
            y = y + self.r if part == "add" else ACTIVATIONS[part](y)
        return y


def conv(channels: int, filters: int, size: tuple[int, int], kernel: int = 3, **more: object) -> KernelSpec:
    return KernelSpec("conv", channels, filters, *size, (kernel, kernel), padding=(kernel // 2, kernel // 2), **more)


def small(op: str, channels: int = 10, **more: object) -> KernelSpec:
    return KernelSpec(op, channels, channels, 9, 11, **more)


CASES = {
    "filter_vector": [
        Case(conv(10, 22, (9, 13), stride=(2, 2), epilogue=("relu",))),
        Case(conv(12, 32, (7, 9), 1, epilogue=("add", "hard_swish")), "block_punched(8x4)"),
        Case(conv(8, 8, (6, 10), dilation=(2, 2), epilogue=("relu6",)), "unstructured"),
        Case(KernelSpec("linear", 37, 19, 1, 1)),
    ],
    "pixel_vector": [
        Case(conv(9, 13, (9, 13), epilogue=("add", "relu")), "unstructured"),
        Case(conv(12, 12, (14, 14), 1, epilogue=("hard_sigmoid",)), "block_punched(4x4)"),
        Case(conv(6, 6, (11, 8), 5)),
        Case(KernelSpec("depthwise", 11, 11, 9, 9, (3, 3), padding=(1, 1), groups=11)),
    ],
    "pixel_panel": [
        Case(conv(16, 16, (9, 13), epilogue=("add", "relu")), "pattern(4)"),
        Case(conv(9, 10, (12, 14), epilogue=("relu6",)), "unstructured"),
        Case(conv(8, 8, (7, 3)), "unstructured"),
    ],
    "winograd": [
        Case(conv(16, 24, (9, 13), epilogue=("relu", "add"))),
        Case(conv(16, 16, (8, 8), epilogue=("hard_swish",)), "block_kernel(8x1)"),
    ],
    "late_winograd": [
        Case(conv(20, 24, (9, 13), epilogue=("relu", "add"))),
        Case(conv(16, 16, (8, 8), epilogue=("hard_swish",)), "block_kernel(8x1)"),
    ],
    "depthwise": [
        Case(KernelSpec("depthwise", 11, 11, 9, 14, (3, 3), padding=(1, 1), groups=11, epilogue=("relu6",))),
        Case(KernelSpec("depthwise", 8, 8, 11, 11, (5, 5), (2, 2), (2, 2), groups=8, epilogue=("hard_swish",))),
        Case(KernelSpec("depthwise", 6, 6, 9, 9, (7, 7), padding=(3, 3), groups=6)),
    ],
    "window_pool": [
        Case(small(op, kernel=(3, 3), stride=(2, 2), padding=(1, 1)))
        for op in ("max_pool", "avg_pool", "avg_pool_valid")
    ],
    "global_pool": [Case(small("global_pool"))],
    "elementwise": [
        Case(small("add", epilogue=("add", "relu"))),
        Case(small("activation", epilogue=("hard_sigmoid",))),
        Case(small("scale", epilogue=("relu6",))),
    ],
    "convert": [
        Case(small("convert", reads=BLOCKED, writes=PLANAR)),
        Case(small("convert", reads=PLANAR, writes=BLOCKED)),
    ],
}


class Function(nn.Module):
    """A function of the input and of a parameter as a module."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.function = function
        self.constant = nn.Parameter(torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.constant)


class First(nn.Module):
    """A recurrent layer without its last state."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class SideBySide(nn.Module):
    """Networks with an input and an output each."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part, x in zip(self.parts, inputs, strict=True))


IMAGE, TOKENS = (5, 9, 11), (6, 20)
PARTS: dict[str, list[tuple[nn.Module, tuple[int, ...]]]] = {
    "constant": [(Function(lambda x, c: torch.cat([x, c.expand(x.shape[0], -1, -1, -1)], 1), 2, 9, 11), IMAGE)],
    "embedding": [(nn.Embedding(50, 13), (7,))],
    "gather": [
        (nn.Sequential(nn.Conv2d(5, 16, 1), nn.PixelShuffle(2)), IMAGE),
        (nn.ReflectionPad2d((1, 2, 3, 0)), IMAGE),
    ],
    "matmul": [
        (nn.TransformerEncoderLayer(20, 4, 24, batch_first=True, activation="gelu"), TOKENS),
        (Function(lambda x, c: x @ c, 20, 12), TOKENS),
    ],
    "over_channels": [(nn.LayerNorm(20), TOKENS), (nn.RMSNorm(20), TOKENS)],
    "over_groups": [(nn.GroupNorm(5, 5), IMAGE), (nn.InstanceNorm2d(5, affine=True), IMAGE)],
    "recurrent": [
        (First(nn.GRU(20, 13, 2, batch_first=True, bidirectional=True)), TOKENS),
        (First(nn.LSTM(20, 13, batch_first=True)), TOKENS),
        (First(nn.RNN(20, 13, batch_first=True)), TOKENS),
    ],
    "resize": [
        (nn.Upsample(scale_factor=2), IMAGE),
        (nn.Upsample(size=(7, 20), mode="bilinear"), IMAGE),
        (nn.Upsample(scale_factor=1.7, mode="bicubic"), IMAGE),
    ],
    "rows": [
        (nn.Softmax(1), IMAGE),
        (nn.LogSoftmax(3), IMAGE),
        (Function(lambda x, c: x.amax(3) + x.mean(3) * c, 1), IMAGE),
    ],
    "table_pool": [(nn.MaxPool2d(3, 2, 1, ceil_mode=True), IMAGE), (nn.AdaptiveAvgPool2d((4, 3)), IMAGE)],
    "elementwise": [
        (part, IMAGE) for part in (nn.GELU(), nn.SiLU(), nn.Mish(), nn.Tanh(), nn.ELU(), nn.Softplus(), nn.PReLU(5))
    ]
    + [(Function(lambda x, c: (2 - x) / (x.abs() + c).sqrt() + x.sin() + (x.abs() + 0.1).log() + x.floor(), 1), IMAGE)],
}
"""Networks whose kernels the compiler itself chooses, some of the family, with the shapes of their inputs."""


def network_of(cases: Sequence[Case], family: str, target: Target) -> CompiledModel:
    """A network in which every case has inputs and an output of its own, and is computed by a kernel of `family`."""
    inputs: dict[str, tuple[int, int, int]] = {}
    constants: dict[str, np.ndarray] = {}
    nodes: list[Node] = []
    layouts: Mapping[str, tuple[str, str]] = {}
    pairs = FAMILIES[family].layouts
    for index, case in enumerate(cases):
        names = [f"x{index}", f"r{index}"][: 1 + case.binary]
        for name, tensor in zip(names, (case.x, case.r), strict=False):
            inputs[name] = (int(tensor.shape[1]), int(tensor.shape[2]), int(tensor.shape[3]))
        constants |= {f"w{index}": case.weight.numpy(), f"b{index}": case.bias.numpy()}
        out = case.expected().shape
        nodes.append(Node(f"y{index}", case.op(str(index)), tuple(names), (int(out[1]), int(out[2]), int(out[3]))))
        here = (case.spec.reads, case.spec.writes)
        layouts = {**layouts, f"y{index}": here if here in pairs and IN_BLOCKS in pairs else IN_PLANES}
    outputs = tuple(node.name for node in nodes)
    graph = Graph(inputs, tuple(nodes), outputs, tuple(node.shape for node in nodes), constants)

    def choose(spec: KernelSpec, target: Target) -> Schedule:
        of_family = [offer for offer in offers(spec, target) if offer.family == family]
        return min(of_family, key=lambda offer: offer.cycles) if of_family else schedule(spec, target)

    return build(make_plan(graph, target, choose=choose, layouts=layouts))


def test_every_family_has_a_case() -> None:
    assert {*CASES, *PARTS} == set(FAMILIES)


@pytest.mark.parametrize("family", CASES)
def test_kernels_of_every_family_on_neon(family: str, cross_tools: None, run_program: RunProgram) -> None:
    cases = CASES[family]
    compiled = network_of(cases, family, NEON)
    used = [row["op"] for row in compiled.listing.kernels if row["family"] == family]
    assert set(used) >= {case.spec.op for case in cases}, "the network does not hold the kernels to be tested"
    inputs = [tensor for case in cases for tensor in ((case.x, case.r) if case.binary else (case.x,))]
    for case, found in zip(cases, run_program(compiled, inputs), strict=True):
        expected = case.expected()
        assert float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max()) <= 1e-4, case.spec


@pytest.mark.parametrize("family", CASES)
def test_kernels_of_every_family_here_with_as_many_registers(family: str) -> None:
    """The tiles of a processor with 32 vector registers, here, where sanitizers can see them; spilling is slow only."""
    cases = CASES[family]
    compiled = network_of(cases, family, replace(local_target(), registers=32, accumulators=24))
    inputs = [tensor for case in cases for tensor in ((case.x, case.r) if case.binary else (case.x,))]
    given = compiled(*inputs)
    for case, found in zip(cases, (given,) if len(cases) == 1 else given, strict=True):
        expected = case.expected()
        assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-4, case.spec


@pytest.mark.parametrize("family", PARTS)
def test_operators_of_every_family_on_neon(family: str, cross_tools: None, run_program: RunProgram) -> None:
    torch.manual_seed(0)
    parts = [part for part, _ in PARTS[family]]
    whole = isinstance(parts[0], nn.Embedding)
    inputs = [torch.randint(50, (1, *shape)) if whole else torch.randn(1, *shape) for _, shape in PARTS[family]]
    model = SideBySide(parts).eval()
    compiled = compile_model(model, inputs, device=NEON)
    assert family in {row["family"] for row in compiled.listing.kernels}
    with torch.no_grad():
        expected = model(*inputs)
    for found, wanted in zip(run_program(compiled, inputs), expected, strict=True):
        assert float((torch.from_numpy(found) - wanted).abs().max() / wanted.abs().max()) <= 1e-4


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.body(x)
        x = F.relu(x + y * F.hardsigmoid(self.gate(y)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def test_a_network_for_a_phone_is_compiled_here_and_runs_there(cross_tools: None, run_program: RunProgram) -> None:
    torch.manual_seed(0)
    model, x = Residual().eval(), torch.randn(3, 3, 17, 18)
    weight = model.body[0].weight
    weight.data *= make_scheme("block_punched(8x4)").mask(weight.data, 2.0)
    compiled = compile_model(model, x[:1], device="aarch64_neon")
    assert structure_of(weight.detach().numpy()) in [spec.sparsity for spec in compiled.specs]
    with torch.no_grad():
        expected = model(x)
    (found,) = run_program(compiled, [x])
    assert float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max()) <= 1e-4


@pytest.mark.skipif(local_architecture() == "aarch64", reason="this processor is the one compiled for")
def test_what_is_compiled_for_another_processor_is_neither_called_nor_timed(cross_tools: None) -> None:
    model, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    compiled = compile_model(model, x, device=NEON)
    for use in (lambda: compiled(x), compiled.time, compiled.run_once):
        with pytest.raises(CannotRunHere, match=r"aarch64_neon.*build_standalone"):
            use()
    with pytest.raises(CannotRunHere, match=r"aarch64_neon.*build_standalone"):
        compile_model(model, x, device=NEON, tune=True)
