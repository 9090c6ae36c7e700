"""Every scheme keeps the same laws; a new scheme joins by a line in TEXTS and its partition in GROUP_OF."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning import Scheme, Sparsity, kept, make_scheme, project, scheme_names
from pruning.errors import InvalidRate, InvalidScheme, NonFiniteWeights, UnknownScheme, UnsupportedShape

TEXTS = (
    "dense",
    "unstructured",
    "filter",
    "filter(8)",
    "channel",
    "channel(2)",
    "block_punched(16x1)",
    "block_punched(32x1)",
    "block_punched(16x4)",
    "block_punched(8x4)",
    "block_punched(2x1)",
    "block_punched(3x2)",
    "block_kernel(16x1)",
    "block_kernel(3x2)",
    "pattern(4)",
    "pattern(4, share=16)",
    "pattern(4, share=3)",
    "pcnn",
    "pcnn(2)",
    "nm(2:4)",
    "nm(1:4)",
    "nm(3:5)",
)
GROUP_OF = {
    "dense": lambda scheme, index: 0,
    "unstructured": lambda scheme, index: index,
    "filter": lambda scheme, index: index[0],
    "channel": lambda scheme, index: index[1],
    "block_punched": lambda scheme, index: (index[0] // scheme.filters, index[1] // scheme.channels, *index[2:]),
    "block_kernel": lambda scheme, index: (index[0] // scheme.filters, index[1] // scheme.channels),
    "pattern": lambda scheme, index: (index[0] // scheme.share, *index[1:]),
    "pcnn": lambda scheme, index: index,
    "nm": lambda scheme, index: index,
}
CELLS = {"pattern", "pcnn", "nm"}
"""Schemes with another rule than "the K best groups of the layer"."""
RATES = (1, 2, 2.5, 3, 5, 7, 10)


def groups_of(scheme: Scheme, shape: tuple[int, ...]) -> Tensor:
    """Group number of every weight, from the definition alone."""
    indices = itertools.product(*map(range, shape))
    keys = [GROUP_OF[scheme.name](scheme, index) for index in indices]
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return torch.tensor([numbers[key] for key in keys]).reshape(shape)


def wanted_count(scheme: Scheme, shape: tuple[int, ...], rate: float) -> int:
    """Groups that stay, from the definition alone."""
    filters, channels, positions = shape[0], shape[1], math.prod(shape[2:])
    groups = int(groups_of(scheme, shape).max()) + 1
    if rate == 1:
        return groups
    if scheme.name == "pattern":
        kernels = min(channels, max(1, math.floor(2.25 * channels / rate + 0.5)))
        return 4 * kernels * math.ceil(filters / scheme.share)
    if scheme.name == "pcnn":
        return filters * channels * max(1, math.floor(positions / rate + 0.5))
    if scheme.name == "nm":
        cells = [min(scheme.cell, channels - first) for first in range(0, channels, scheme.cell)]
        return filters * positions * sum(math.ceil(scheme.kept * size / scheme.cell) for size in cells)
    count = max(1, math.floor(groups / rate + 0.5))
    align = getattr(scheme, "align", 1)
    return min(groups, math.ceil(count / align) * align)


def group_energies(weight: Tensor, groups: Tensor) -> Tensor:
    energies = torch.zeros(int(groups.max()) + 1, dtype=torch.float64)
    return energies.index_add(0, groups.flatten(), weight.double().square().flatten())


def random_weight(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def legal(text: str, shape: tuple[int, ...], rate: float) -> bool:
    try:
        make_scheme(text).check(shape, rate)
    except (UnsupportedShape, InvalidRate):
        return False
    return True


kernels = st.just((3, 3)) | st.tuples(st.integers(1, 3), st.integers(1, 3))
convolutions = st.tuples(st.integers(1, 20), st.integers(1, 12), kernels).map(lambda shape: (*shape[:2], *shape[2]))
matrices = st.tuples(st.integers(1, 24), st.integers(1, 24))
cases = st.tuples(
    st.sampled_from(TEXTS), convolutions | matrices, st.sampled_from(RATES) | st.floats(1, 30), st.integers(0, 2**31)
).filter(lambda case: legal(*case[:3]))


def test_every_scheme_is_under_test() -> None:
    assert {make_scheme(text).name for text in TEXTS} == set(scheme_names()) == set(GROUP_OF)


@settings(max_examples=150, deadline=None)
@given(cases)
def test_mask_is_constant_on_groups_and_counts_exactly(case: tuple[str, tuple[int, ...], float, int]) -> None:
    text, shape, rate, seed = case
    scheme = make_scheme(text)
    groups = groups_of(scheme, shape)
    mask = scheme.mask(random_weight(shape, seed), rate)
    assert mask.dtype == torch.bool
    assert mask.shape == shape
    kept_weights = torch.zeros(int(groups.max()) + 1).index_add(0, groups.flatten(), mask.flatten().float())
    sizes = groups.flatten().bincount()
    assert bool(((kept_weights == 0) | (kept_weights == sizes)).all())
    assert scheme.group_count(shape) == len(sizes)
    assert int((kept_weights > 0).sum()) == scheme.kept_groups(shape, rate) == wanted_count(scheme, shape, rate)


@settings(max_examples=100, deadline=None)
@given(cases)
def test_projection_laws(case: tuple[str, tuple[int, ...], float, int]) -> None:
    text, shape, rate, seed = case
    scheme, weight = make_scheme(text), random_weight(shape, seed)
    mask = scheme.mask(weight, rate)
    assert torch.equal(scheme.mask(weight * mask, rate), mask), "idempotent"
    for factor in (-1.0, 2.0**20, -(2.0**-30)):
        assert torch.equal(scheme.mask(weight * factor, rate), mask), "scale"
    if legal(text, shape, rate * 1.7) and text != "pcnn(2)":
        assert not bool((scheme.mask(weight, rate * 1.7) & ~mask).any()), "nested"
    assert torch.equal(scheme.mask(weight.double(), rate), mask), "wider floats"
    assert bool(scheme.mask(weight, 1).all()), "identity"


@settings(max_examples=60, deadline=None)
@given(cases)
def test_scores_are_group_energies(case: tuple[str, tuple[int, ...], float, int]) -> None:
    text, shape, _, seed = case
    scheme, weight = make_scheme(text), random_weight(shape, seed)
    torch.testing.assert_close(scheme.scores(weight), group_energies(weight, groups_of(scheme, shape)))


@pytest.mark.parametrize(
    ("text", "shape", "rate"),
    [
        ("unstructured", (2, 2, 1, 3), 2.5),
        ("unstructured", (3, 4), 3),
        ("filter", (12, 2, 1, 1), 3),
        ("filter(4)", (9, 2, 2, 2), 5),
        ("channel", (2, 12, 2, 1), 2),
        ("channel(2)", (3, 9), 2.5),
        ("block_punched(2x1)", (4, 2, 2, 2), 3),
        ("block_punched(3x2)", (5, 3, 2, 2), 2),
        ("block_punched(16x1)", (4, 3, 2, 2), 3),
        ("block_kernel(2x1)", (7, 4, 2, 2), 3),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_legal_mask_retains_more(text: str, shape: tuple[int, ...], rate: float, seed: int) -> None:
    scheme, weight = make_scheme(text), random_weight(shape, seed)
    energies = group_energies(weight, groups_of(scheme, shape))
    count = wanted_count(scheme, shape, rate)
    subsets = itertools.combinations(energies.tolist(), count)
    assert math.comb(len(energies), count) <= 20_000
    best = max(map(math.fsum, subsets))
    retained = float((weight.double() * scheme.mask(weight, rate)).square().sum())
    assert retained == pytest.approx(best, rel=1e-12)


def patterned(filters: int, channels: int, share: int, kernels: int) -> Iterator[Tensor]:
    """All masks of pattern(4, share) that keep so many kernels."""
    library = (
        (4, 5, 7, 8),
        (3, 4, 6, 7),
        (1, 2, 4, 5),
        (0, 1, 3, 4),
        (1, 3, 4, 5),
        (3, 4, 5, 7),
        (1, 4, 5, 7),
        (1, 3, 4, 7),
    )
    blocks = range(0, filters, share)
    connections = list(itertools.combinations(range(channels), kernels))
    a_block = [
        list(zip(chosen, patterns, strict=True))
        for chosen in connections
        for patterns in itertools.product(library, repeat=kernels)
    ]
    for kept_in in itertools.product(a_block, repeat=len(blocks)):
        mask = torch.zeros(filters, channels, 9, dtype=torch.bool)
        for first, kept_here in zip(blocks, kept_in, strict=True):
            for channel, pattern in kept_here:
                mask[first : first + share, channel, list(pattern)] = True
        yield mask.reshape(filters, channels, 3, 3)


def in_cells(cells: list[list[int]], counts: list[int], shape: tuple[int, ...]) -> Iterator[Tensor]:
    """All masks that keep `counts[i]` of the flat indices `cells[i]`."""
    choices = [list(itertools.combinations(cell, count)) for cell, count in zip(cells, counts, strict=True)]
    for chosen in itertools.product(*choices):
        mask = torch.zeros(math.prod(shape), dtype=torch.bool)
        mask[list(itertools.chain(*chosen))] = True
        yield mask.reshape(shape)


LEGAL_MASKS = [
    ("pattern(4)", (1, 4, 3, 3), 4.5, patterned(1, 4, 1, 2), 384),
    ("pattern(4)", (2, 2, 3, 3), 5, patterned(2, 2, 1, 1), 256),
    ("pattern(4, share=2)", (3, 2, 3, 3), 5, patterned(3, 2, 2, 1), 256),
    ("pattern(4)", (1, 3, 3, 3), 1.2, patterned(1, 3, 1, 3), 512),
    ("pcnn", (1, 2, 3, 3), 4, in_cells([list(range(9)), list(range(9, 18))], [2, 2], (1, 2, 3, 3)), 36**2),
    ("nm(2:4)", (1, 7), 7 / 4, in_cells([[0, 1, 2, 3], [4, 5, 6]], [2, 2], (1, 7)), 18),
    ("nm(1:4)", (2, 5), 4, in_cells([[0, 1, 2, 3], [4], [5, 6, 7, 8], [9]], [1] * 4, (2, 5)), 16),
    ("nm(1:2)", (1, 3, 2, 1), 2, in_cells([[0, 2], [4], [1, 3], [5]], [1] * 4, (1, 3, 2, 1)), 4),
]


@pytest.mark.parametrize(("text", "shape", "rate", "masks", "count"), LEGAL_MASKS)
def test_no_legal_choice_in_cells_retains_more(
    text: str, shape: tuple[int, ...], rate: float, masks: Iterator[Tensor], count: int
) -> None:
    scheme, weights = make_scheme(text), [random_weight(shape, seed) for seed in range(3)]
    weights.append(torch.ones(shape))
    legal_masks = list(masks)
    assert len(legal_masks) == count
    for weight in weights:
        mask, energy = scheme.mask(weight, rate), weight.double().square()
        best = max(float(energy[other].sum()) for other in legal_masks)
        assert any(torch.equal(mask, other) for other in legal_masks)
        assert float(energy[mask].sum()) == pytest.approx(best, rel=1e-12)


def test_ties_in_cells_go_to_the_first() -> None:
    ones = torch.ones(2, 5, 3, 3)
    pattern = make_scheme("pattern(4)").mask(ones, 5).reshape(2, 5, 9).nonzero().tolist()
    assert pattern == [[o, c, p] for o in (0, 1) for c in (0, 1) for p in (4, 5, 7, 8)]
    pcnn = make_scheme("pcnn(2)").mask(ones, 4.5).reshape(2, 5, 9)
    assert bool((pcnn == torch.tensor([True, True, *[False] * 7])).all())
    assert make_scheme("nm(2:4)").mask(torch.zeros(1, 6), 2).tolist() == [[True, True, False, False, True, False]]


def test_a_library_is_near_the_best_one() -> None:
    """Greedy choice is within 1 - 1/e of the best library; here all 630 pairs are tried."""
    weight = random_weight((6, 5, 3, 3), 0)
    kernels = weight.double().square().reshape(-1, 9)
    pairs = itertools.combinations(itertools.combinations(range(9), 2), 2)
    best = max(float(torch.maximum(kernels[:, a].sum(1), kernels[:, b].sum(1)).sum()) for a, b in pairs)
    mask = make_scheme("pcnn(2)").mask(weight, 4.5)
    assert len(mask.reshape(-1, 9).unique(dim=0)) == 2
    assert best * (1 - 1 / math.e) <= float((weight.double() * mask).square().sum()) <= best * (1 + 1e-12)


def test_patterns_retain_the_energy_of_the_reference() -> None:
    weight = random_weight((100, 200, 3, 3), 0)
    retained = float((weight * make_scheme("pattern(4)").mask(weight, 2.25)).square().sum() / weight.square().sum())
    assert retained == pytest.approx(0.697, abs=0.01)


@pytest.mark.parametrize("rate", [1.5, 3, 4])
def test_n_of_m_has_one_rate(rate: float) -> None:
    with pytest.raises(InvalidRate, match="4/2 = 2"):
        make_scheme("nm(2:4)").mask(torch.ones(4, 8), rate)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (text, shape)
        for text in TEXTS
        for shape in [(6, 5, 3, 3), (33, 6, 1, 1), (7, 9)]
        if legal(text, shape, 3) and make_scheme(text).name not in CELLS
    ],
)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_ties_go_to_the_lower_index(text: str, shape: tuple[int, ...], value: float) -> None:
    scheme = make_scheme(text)
    groups = groups_of(scheme, shape)
    sizes = groups.flatten().bincount()
    mask = scheme.mask(torch.full(shape, value), 3)
    count = wanted_count(scheme, shape, 3)
    energies = sizes * value**2
    expected = sorted(range(len(sizes)), key=lambda group: (-float(energies[group]), group))[:count]
    assert set(groups[mask].tolist()) == set(expected)


@pytest.mark.parametrize(
    ("text", "rate"), [(text, rate) for text in TEXTS for rate in (1, 2) if legal(text, (4, 4, 3, 3), rate)]
)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_weights_are_refused(text: str, bad: float, rate: float) -> None:
    weight = torch.ones(4, 4, 3, 3)
    weight[1, 2, 0, 1] = bad
    with pytest.raises(NonFiniteWeights, match="1 of 144"):
        make_scheme(text).mask(weight, rate)


def test_finite_weights_whose_sum_overflows_are_accepted() -> None:
    weight = torch.full((4, 4), 3e38)
    weight[0] = 1e38
    assert torch.equal(make_scheme("filter").mask(weight, 2).any(1), torch.tensor([False, True, True, False]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats_neither_overflow_nor_underflow(dtype: torch.dtype) -> None:
    weight = torch.tensor([[60000.0, 1.0, 2e-4, 3e-4]], dtype=dtype)
    assert make_scheme("unstructured").mask(weight, 4 / 3).tolist() == [[True, True, False, True]]


@pytest.mark.parametrize("rate", [0.5, 0, -1, math.nan, math.inf])
def test_rates_that_are_none(rate: float) -> None:
    with pytest.raises(InvalidRate, match="before"):
        make_scheme("filter").mask(torch.ones(4, 4), rate)


def test_dense_keeps_everything_or_refuses() -> None:
    with pytest.raises(InvalidRate, match="dense"):
        make_scheme("dense").mask(torch.ones(4, 4), 2)
    assert project(torch.zeros(2, 3, 4), Sparsity()).all()


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        ("filter", (3, 4, 5), "3 dimensions"),
        ("unstructured", (0, 4), "empty"),
        ("channel", (8, 1, 3, 3), "only one input channel"),
        ("block_punched(8x4)", (16, 16), "convolutions"),
        ("pattern(4)", (8, 8, 1, 1), "3x3"),
        ("pattern(4, share=16)", (8, 8), "3x3"),
        ("pcnn", (8, 8, 1, 1), "one position"),
        ("pcnn(4)", (8, 8, 5, 5), "at most 9 positions"),
        ("nm(2:4)", (8, 3, 3, 3), "only 3 input channels"),
    ],
)
def test_unsupported_shapes_are_refused_in_words(text: str, shape: tuple[int, ...], reason: str) -> None:
    scheme = make_scheme(text)
    assert reason in (scheme.supports(shape) or "")
    with pytest.raises(UnsupportedShape, match=reason):
        scheme.mask(torch.ones(shape), 2)


@pytest.mark.parametrize(
    ("shape", "groups", "counts"),
    [
        ((64, 64, 3, 3), 1152, [576, 461, 384, 230, 165, 115]),
        ((64, 64, 1, 1), 128, [64, 51, 43, 26, 18, 13]),
        ((20, 10, 3, 3), 81, [41, 32, 27, 16, 12, 8]),
    ],
)
def test_block_punched_counts_of_the_reference(shape: tuple[int, ...], groups: int, counts: list[int]) -> None:
    scheme = make_scheme("block_punched(8x4)")
    assert scheme.group_count(shape) == groups
    assert [scheme.kept_groups(shape, rate) for rate in RATES[1:]] == counts


def test_kept_rounds_half_up_and_never_to_zero() -> None:
    assert [kept(5, 2), kept(7, 2), kept(1, 10), kept(9, 1)] == [3, 4, 1, 9]


def test_alignment_rounds_up_and_stops_at_all() -> None:
    aligned = make_scheme("filter(8)")
    assert [aligned.kept_groups((n, 4, 3, 3), 3) for n in (4, 24, 32, 96)] == [4, 8, 16, 32]


@pytest.mark.parametrize("text", TEXTS)
def test_text_round_trip(text: str) -> None:
    assert str(make_scheme(text)) == text
    assert make_scheme(text) == make_scheme(text)
    assert len({make_scheme(text), make_scheme(text)}) == 1


def test_alignment_of_one_is_no_alignment() -> None:
    assert make_scheme("filter(1)") == make_scheme("filter")


def test_unknown_names_list_what_is_known() -> None:
    with pytest.raises(UnknownScheme, match="block_punched, channel, dense, filter, nm, pattern, pcnn, unstructured"):
        make_scheme("filtre")


@pytest.mark.parametrize(
    "text",
    [
        *("", "filter(", "filter()x", "filter(0)", "filter(a)", "block_punched", "block_punched(8)", "dense(1)"),
        *("pattern", "pattern(5)", "pattern(4, share=0)", "pattern(4, 16)", "pcnn(0)", "pcnn(a)"),
        *("nm", "nm(4)", "nm(4:4)", "nm(0:4)"),
    ],
)
def test_malformed_texts(text: str) -> None:
    with pytest.raises(InvalidScheme):
        make_scheme(text)


@pytest.mark.parametrize("block", ["0x4", "8x0"])
def test_blocks_are_at_least_one_by_one(block: str) -> None:
    with pytest.raises(InvalidScheme, match="at least 1"):
        make_scheme(f"block_punched({block})")
