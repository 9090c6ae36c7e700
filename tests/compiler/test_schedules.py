"""Every schedule computes what torch computes."""

import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compiler import KernelSpec, Target, find_target, local_target, schedule
from compiler.compile import build
from compiler.errors import UnsupportedOperator
from compiler.graph import Conv, Graph, Node
from compiler.kernels import Schedule
from compiler.kernels.late_winograd import PIECE_BYTES
from compiler.kernels.winograd import PLANES
from compiler.layout import LINE, PLANAR, Buffer
from compiler.plan import make_plan
from compiler.select import offers
from compiler.structure import structure_of
from pruning import Sparsity, make_scheme

ACTIVATIONS = {"relu": F.relu, "relu6": F.relu6, "hard_swish": F.hardswish, "hard_sigmoid": F.hardsigmoid}
SCHEMES = ("dense", "block_punched(8x4)", "block_punched(4x4)", "block_punched(2x1)", "unstructured", "pcnn", "nm(2:4)")
TOLERANCES = defaultdict(lambda: 1e-5, winograd=3e-5, late_winograd=3e-5)
PATTERNS = ("pattern(4)", "pattern(4, share=16)")
TARGETS = [name for name in ("x86_sse", "x86_avx2", "x86_avx512") if find_target(name).vector <= local_target().vector]


def planar(spec: KernelSpec) -> KernelSpec:
    return replace(spec, reads=PLANAR, writes=PLANAR)


def run(
    spec: KernelSpec, weight: Tensor, bias: Tensor, x: Tensor, r: Tensor, chosen: Schedule, target: Target
) -> Tensor:
    """One convolution, by the schedule `chosen`."""
    shape = (spec.out_channels, *spec.out_size)
    inputs = {"x": tuple(x.shape[1:]), "r": shape} if "add" in spec.epilogue else {"x": tuple(x.shape[1:])}
    op = Conv("w", "b", spec.stride, spec.padding, spec.dilation, spec.groups, spec.epilogue)
    node = Node("y", op, tuple(inputs), shape)
    graph = Graph(inputs, (node,), ("y",), (shape,), {"w": weight.numpy(), "b": bias.numpy()})

    def choose(other: KernelSpec, target: Target) -> Schedule:
        return chosen if other.op == spec.op else schedule(other, target)

    compiled = build(make_plan(graph, target, choose=choose, layouts={"y": (spec.reads, spec.writes)}))
    compiled.program._arena[:] = 255  # every float that nobody writes is NaN
    return torch.as_tensor(compiled(x, r) if "add" in spec.epilogue else compiled(x))


def check(spec: KernelSpec, weight: Tensor, target: Target, seed: int, index: int | None = None) -> None:
    """Run schedule `index` of the spec, or the best, and compare it with torch."""
    offered = sorted(offers(spec, target), key=lambda offer: offer.cycles)
    check_schedule(spec, weight, target, seed, offered[0 if index is None else index % len(offered)])


def check_schedule(spec: KernelSpec, weight: Tensor, target: Target, seed: int, chosen: Schedule) -> None:
    """Run one schedule of the spec and compare it with torch."""
    generator = torch.Generator().manual_seed(seed)
    bias = torch.randn(spec.out_channels, generator=generator)
    x = torch.randn(2, spec.in_channels, spec.height, spec.width, generator=generator)
    r = torch.randn(2, spec.out_channels, *spec.out_size, generator=generator)
    y = F.conv2d(x, weight, bias, spec.stride, spec.padding, spec.dilation, spec.groups)
    largest = max(1.0, float(y.abs().max()))  # activations may cap what the sums' rounding is relative to
    for part in spec.epilogue:
        y = y + r if part == "add" else ACTIVATIONS[part](y)
    given_ = run(spec, weight, bias, x, r, chosen, target)
    assert float((given_ - y).abs().max()) <= TOLERANCES[chosen.family] * largest, chosen


def masked(shape: tuple[int, ...], text: str, rate: float, seed: int) -> Tensor:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    scheme = make_scheme(text)
    if text == "dense" or scheme.supports(shape) is not None:
        return weight
    return weight * scheme.mask(weight, 2.0 if text == "nm(2:4)" else rate)


epilogues = st.sampled_from([(), ("relu",), ("add", "relu"), ("hard_swish", "add"), ("add", "hard_sigmoid")])


@settings(max_examples=40, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    kernel=st.sampled_from([(1, 1), (3, 3), (3, 3), (3, 3), (5, 3), (2, 4)]),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    size=st.tuples(st.integers(9, 30), st.integers(9, 37)),
    scheme=st.sampled_from((*SCHEMES, *PATTERNS, *PATTERNS)),
    rate=st.sampled_from([2.0, 3.0, 10.0]),
    epilogue=epilogues,
    target=st.sampled_from(TARGETS),
    index=st.integers(0, 10_000),
    seed=st.integers(0, 99),
)
def test_any_schedule_of_any_convolution(
    channels: tuple[int, int],
    kernel: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    size: tuple[int, int],
    scheme: str,
    rate: float,
    epilogue: tuple[str, ...],
    target: str,
    index: int,
    seed: int,
) -> None:
    weight = masked((channels[1], channels[0], *kernel), scheme, rate, seed)
    spec = KernelSpec("conv", *channels, *size, kernel, padding=padding, dilation=dilation, epilogue=epilogue)
    spec = planar(replace(spec, sparsity=structure_of(weight.numpy())))
    check(spec, weight, find_target(target), seed, index)


@settings(max_examples=30, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    kernel=st.sampled_from([(1, 1), (3, 3), (5, 3)]),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(5, 16), st.integers(5, 16)),
    scheme=st.sampled_from(["dense", "filter", "block_punched(16x1)", "block_punched(16x4)", "unstructured"]),
    epilogue=epilogues,
    target=st.sampled_from(TARGETS),
    outside=st.booleans(),
    index=st.integers(0, 10_000),
)
def test_any_schedule_of_vectors_of_filters(
    channels: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    size: tuple[int, int],
    scheme: str,
    epilogue: tuple[str, ...],
    target: str,
    outside: bool,
    index: int,
) -> None:
    weight = masked((channels[1], channels[0], *kernel), scheme, 3.0, index)
    spec = KernelSpec("conv", *channels, *size, kernel, stride, padding=(1, 0), epilogue=epilogue)
    spec = replace(spec, sparsity=structure_of(weight.numpy()))
    offered = [offer for offer in offers(spec, find_target(target)) if offer.family == "filter_vector"]
    chosen = replace(offered[index % len(offered)], blocks_outside=outside)
    check_schedule(spec, weight, find_target(target), index, chosen)


@settings(max_examples=30, deadline=None)
@given(
    channels=st.tuples(st.integers(16, 70), st.integers(1, 70)),
    size=st.tuples(st.integers(3, 19), st.integers(3, 19)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    scheme=st.sampled_from(["dense", "filter", "block_kernel(16x1)", "block_kernel(32x1)"]),
    epilogue=epilogues,
    target=st.sampled_from(TARGETS),
    group=st.integers(1, 4),
    products=st.integers(1, 3),
    index=st.integers(0, 10_000),
)
def test_winograd_in_any_groups_and_chunks(
    channels: tuple[int, int],
    size: tuple[int, int],
    padding: tuple[int, int],
    scheme: str,
    epilogue: tuple[str, ...],
    target: str,
    group: int,
    products: int,
    index: int,
) -> None:
    """Groups that do not divide the filter blocks, chunks that do not divide the tiles."""
    weight = masked((channels[1], channels[0], 3, 3), scheme, 3.0, index)
    spec = KernelSpec("conv", *channels, *size, (3, 3), padding=padding, epilogue=epilogue)
    spec = replace(spec, sparsity=structure_of(weight.numpy()))
    for family, blocks in (("winograd", group), ("late_winograd", 1)):
        if offered := [offer for offer in offers(spec, find_target(target)) if offer.family == family]:
            offer = offered[index % len(offered)]
            chosen = replace(offer, group=blocks, chunk=products * offer.cols)
            check_schedule(spec, weight, find_target(target), index, chosen)


@pytest.mark.parametrize("scheme", ["dense", "block_kernel(32x1)"])
@pytest.mark.parametrize("target", TARGETS)
def test_late_winograd_in_several_pieces(scheme: str, target: str) -> None:
    """More channels than have their weights transformed at a time, in some filter blocks and, pruned, not in others."""
    weight = masked((96, 900, 3, 3), scheme, 1.5, 0)
    weight[32:64, 300:] = 0
    weight[64:] = 0
    spec = KernelSpec("conv", 900, 96, 5, 6, (3, 3), padding=(1, 1), epilogue=("add", "relu"))
    spec = replace(spec, sparsity=structure_of(weight.numpy()))
    offered = [offer for offer in offers(spec, find_target(target)) if offer.family == "late_winograd"]
    lanes = find_target(target).vector
    weights = [4 * PLANES * offer.entries * offer.unroll * offer.vectors * lanes for offer in offered]
    assert max(weights) > PIECE_BYTES
    for offer in {(offer.form, offer.vectors): offer for offer in offered}.values():
        check_schedule(spec, weight, find_target(target), 0, offer)


@settings(max_examples=25, deadline=None)
@given(
    channels=st.tuples(st.integers(17, 70), st.integers(33, 90)),
    kernel=st.sampled_from([(1, 1), (3, 3)]),
    scheme=st.sampled_from(["block_punched(16x1)", "block_punched(32x1)", "block_punched(16x4)", "block_kernel(16x1)"]),
    gone=st.floats(0.02, 0.3),
    layout=st.sampled_from([lambda spec: spec, planar]),
    target=st.sampled_from(TARGETS),
    index=st.integers(0, 10_000),
)
def test_any_schedule_of_blocks_that_lost_filters_and_channels(
    channels: tuple[int, int],
    kernel: tuple[int, int],
    scheme: str,
    gone: float,
    layout: Callable[[KernelSpec], KernelSpec],
    target: str,
    index: int,
) -> None:
    """The spec's blocks are only about those that are packed."""
    generator = torch.Generator().manual_seed(index)
    stays = [(torch.rand(size, generator=generator) >= gone).index_fill(0, torch.tensor(0), True) for size in channels]
    weight = masked((channels[1], channels[0], *kernel), scheme, 4.0, index)[stays[1]][:, stays[0]].contiguous()
    spec = KernelSpec("conv", weight.shape[1], len(weight), 9, 11, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
    check(layout(replace(spec, sparsity=structure_of(weight.numpy()))), weight, find_target(target), index, index)


@settings(max_examples=15, deadline=None)
@given(
    scheme=st.sampled_from(["unstructured", "pattern(4)", "pcnn"]),
    channels=st.tuples(st.integers(4, 40), st.integers(1, 12)),
    size=st.tuples(st.integers(3, 34), st.integers(3, 34)),
    padding=st.integers(0, 1),
    epilogue=epilogues,
    index=st.integers(0, 10_000),
)
def test_panels_of_narrow_and_wide_images(
    scheme: str,
    channels: tuple[int, int],
    size: tuple[int, int],
    padding: int,
    epilogue: tuple[str, ...],
    index: int,
) -> None:
    """Two rows a vector, less than a vector a row, and several vectors a row."""
    target = local_target()
    weight = masked((channels[1], channels[0], 3, 3), scheme, 3.0, index)
    spec = KernelSpec("conv", *channels, *size, (3, 3), padding=(padding, padding), epilogue=epilogue)
    spec = planar(replace(spec, sparsity=structure_of(weight.numpy())))
    offered = sorted(offers(spec, target), key=lambda offer: offer.cycles)
    panels = [number for number, offer in enumerate(offered) if offer.family == "pixel_panel"]
    if panels:
        check(spec, weight, target, index, panels[index % len(panels)])


@settings(max_examples=10, deadline=None)
@given(
    channels=st.integers(1, 40), kernel=st.sampled_from([3, 5]), size=st.tuples(st.integers(5, 30), st.integers(5, 30))
)
def test_depthwise_on_planes(channels: int, kernel: int, size: tuple[int, int]) -> None:
    weight = torch.randn(channels, 1, kernel, kernel)
    padding = (kernel // 2, kernel // 2)
    spec = KernelSpec("depthwise", channels, channels, *size, (kernel, kernel), padding=padding, groups=channels)
    check(planar(replace(spec, epilogue=("add", "relu6"))), weight, local_target(), channels)


@pytest.mark.parametrize("fill", ["none", "one", "all but one", "all"])
@pytest.mark.parametrize("size", [(7, 7), (12, 20)])
def test_masks_from_empty_to_full(fill: str, size: tuple[int, int]) -> None:
    target = local_target()
    weight = torch.randn(9, 6, 3, 3)
    mask = torch.full(weight.shape, fill in ("all but one", "all"))
    if fill in ("one", "all but one"):
        mask[4, 2, 1, 0] = fill == "one"
    spec = KernelSpec("conv", 6, 9, *size, (3, 3), padding=(1, 1))
    spec = planar(replace(spec, sparsity=Sparsity("unstructured", 3.0)))  # so that sparse schedules are offered
    offered = sorted(offers(spec, target), key=lambda offer: offer.cycles)
    for family in {offer.family for offer in offered}:
        indices = [index for index, offer in enumerate(offered) if offer.family == family]
        check(spec, weight * mask, target, 0, indices[0])
        check(spec, weight * mask, target, 0, indices[-1])


def test_a_mask_is_data() -> None:
    """Two masks of one shape and rate are served by one function."""
    spec = planar(KernelSpec("conv", 16, 24, 15, 15, (3, 3), padding=(1, 1)))
    for scheme in ("block_punched(8x4)", "unstructured", "pattern(4)"):
        codes = set()
        for seed in (0, 1):
            weight = masked((24, 16, 3, 3), scheme, 3.0, seed)
            op = Conv("w", None, padding=(1, 1))
            graph = Graph(
                {"x": (16, 15, 15)}, (Node("y", op, ("x",), (24, 15, 15)),), ("y",), (), {"w": weight.numpy()}
            )
            plan = make_plan(graph, local_target(), layouts={"y": (spec.reads, spec.writes)})
            codes.add(plan.steps[1].code)
        assert len(codes) == 1


def test_patterns_run_four_products_an_entry() -> None:
    if local_target().registers < 32:
        pytest.skip("panels are for processors with 32 vector registers")
    weight = masked((64, 64, 3, 3), "pattern(4)", 3.0, 0)
    spec = KernelSpec("conv", 64, 64, 28, 28, (3, 3), padding=(1, 1), sparsity=structure_of(weight.numpy()))
    chosen = schedule(planar(spec), local_target())
    assert (chosen.family, chosen.unroll) == ("pixel_panel", 4)


@pytest.mark.parametrize("scheme", ["block_punched(8x4)", "unstructured", "pattern(4)"])
@pytest.mark.parametrize("target", ["x86_avx2", "x86_avx512", "aarch64_neon"])
def test_tiles_fit_the_registers(scheme: str, target: str) -> None:
    machine = find_target(target)
    weight = masked((48, 48, 3, 3), scheme, 3.0, 0)
    spec = KernelSpec("conv", 48, 48, 30, 30, (3, 3), padding=(1, 1), sparsity=structure_of(weight.numpy()))
    for offer in offers(planar(spec), machine):
        sums = offer.filters * offer.vectors
        assert sums <= machine.accumulators
        assert sums + min(offer.filters, offer.vectors) + 1 <= machine.registers
        assert offer.cycles > 0


def test_strides_are_not_offered() -> None:
    with pytest.raises(UnsupportedOperator):
        schedule(planar(KernelSpec("conv", 8, 8, 8, 8, (3, 3), (2, 2), (1, 1))), local_target())


def test_neighbours_of_a_plane_are_left_alone() -> None:
    """Whole vectors are stored at the end of a plane; what they overwrite is nobody's."""
    for height, width in itertools.product((1, 2, 5), (2, 3, 17)):
        weight = torch.randn(19, 5, 1, 1)
        spec = planar(KernelSpec("conv", 5, 19, height, width, (1, 1), epilogue=("hard_sigmoid",)))
        for index in range(0, 40, 7):
            check(spec, weight, local_target(), 0, index)


@pytest.mark.parametrize("halo", [0, 1, 2])
@pytest.mark.parametrize("size", [7, 14, 31, 56])
def test_rows_of_planes_share_their_halo_and_planes_end_with_a_vector(size: int, halo: int) -> None:
    buffer = Buffer(10, size, size, 1, (halo, halo), size + halo)
    assert buffer.offset(3, 2, size) == buffer.offset(3, 3, -halo)
    assert buffer.offset(3, size + halo - 1, size + halo - 1) + LINE < buffer.offset(4, -halo, -halo)
    assert buffer.plane % (2 * LINE) == LINE
    assert buffer.size >= 16 * buffer.plane
