"""Every scheme keeps the same laws; a new scheme joins by a line in TEXTS and its partition in GROUP_OF."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

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
    "block(4x4)",
    "block(3x2)",
    "block_row(4x3)",
    "block_row(16x64)",
    "block_column(3x4)",
    "block_column(16x64)",
    "block_row_column(3x4)",
    "column",
    "row_column",
    "pattern(4)",
    "pattern(4, share=16)",
    "pattern(4, share=3)",
    "derived_pattern(8)",
    "derived_pattern(2, share=3)",
    "pcnn",
    "pcnn(2)",
    "nm(2:4)",
    "nm(1:4)",
    "nm(3:5)",
    "nm(2:4, share=3)",
    "nm(5:20)",
    "transposable_nm(2:4)",
    "transposable_nm(1:3)",
)
GROUP_OF = {
    "dense": lambda scheme, index: 0,
    "unstructured": lambda scheme, index: index,
    "filter": lambda scheme, index: index[0],
    "channel": lambda scheme, index: index[1],
    "block": lambda scheme, index: (index[0] // scheme.height, index[1] // scheme.width, *index[2:]),
    "block_punched": lambda scheme, index: (index[0] // scheme.height, index[1] // scheme.width, *index[2:]),
    "block_kernel": lambda scheme, index: (index[0] // scheme.height, index[1] // scheme.width),
    "block_row": lambda scheme, index: (index[0], index[1] // scheme.width),
    "block_column": lambda scheme, index: (index[0] // scheme.height, index[1]),
    "block_row_column": lambda scheme, index: index,
    "column": lambda scheme, index: index[1:],
    "row_column": lambda scheme, index: index,
    "pattern": lambda scheme, index: (index[0] // scheme.share, *index[1:]),
    "derived_pattern": lambda scheme, index: (index[0] // scheme.share, *index[1:]),
    "pcnn": lambda scheme, index: index,
    "nm": lambda scheme, index: (index[0] // scheme.share, *index[1:]),
    "transposable_nm": lambda scheme, index: index,
}
WHOLE_LAYER = {"dense", "unstructured", "filter", "channel", "column", "block", "block_punched", "block_kernel"}
"""Schemes whose rule is "the K best groups of the layer"."""
NOT_NESTED = {"pcnn(2)", "row_column", "block_row_column(3x4)"}
"""A higher rate has another library, or chooses rows by what other columns leave."""
RATES = (1, 2, 2.5, 3, 5, 7, 10)


def groups_of(scheme: Scheme, shape: tuple[int, ...]) -> Tensor:
    """Group number of every weight, from the definition alone."""
    indices = itertools.product(*map(range, shape))
    keys = [GROUP_OF[scheme.name](scheme, index) for index in indices]
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return torch.tensor([numbers[key] for key in keys]).reshape(shape)


def pieces(extent: int, size: int) -> list[int]:
    """Lengths of the cells that an axis is cut into."""
    return [min(size, extent - first) for first in range(0, extent, size)]


def stay(n: int, rate: float) -> int:
    return max(1, math.floor(n / rate + 0.5))


def patterned_count(scheme: Any, filters: int, channels: int, positions: int, rate: float) -> int:
    kernels = min(channels, max(1, math.floor(2.25 * channels / rate + 0.5)))
    return 4 * kernels * math.ceil(filters / scheme.share)


def tile_count(height: int, width: int, kept: int, size: int) -> int:
    """Most weights of a tile, cut off to height x width, that has `kept` in each of its `size` rows and columns."""
    cut_off = (size - height) * (size - width)
    return min(kept * height, kept * width, height * width, kept * (height + width - size) + cut_off)


COUNTS: dict[str, Callable[[Any, int, int, int, float], int]] = {
    "pattern": patterned_count,
    "derived_pattern": patterned_count,
    "pcnn": lambda _, filters, channels, positions, rate: filters * channels * stay(positions, rate),
    "nm": lambda scheme, filters, channels, positions, _: (
        math.ceil(filters / scheme.share)
        * positions
        * sum(math.ceil(scheme.kept * size / scheme.cell) for size in pieces(channels, scheme.cell))
    ),
    "transposable_nm": lambda scheme, filters, channels, positions, _: (
        positions
        * sum(
            tile_count(height, width, scheme.kept, scheme.cell)
            for height in pieces(filters, scheme.cell)
            for width in pieces(channels, scheme.cell)
        )
    ),
    "block_row": lambda scheme, rows, columns, _, rate: (
        math.ceil(columns / scheme.width) * sum(stay(size, rate) for size in pieces(rows, scheme.height))
    ),
    "block_column": lambda scheme, rows, columns, _, rate: (
        math.ceil(rows / scheme.height) * sum(stay(size, rate) for size in pieces(columns, scheme.width))
    ),
    "block_row_column": lambda scheme, rows, columns, _, rate: sum(
        stay(height, math.sqrt(rate)) * stay(width, math.sqrt(rate))
        for height in pieces(rows, scheme.height)
        for width in pieces(columns, scheme.width)
    ),
    "row_column": lambda _, filters, channels, positions, rate: (
        stay(filters, math.sqrt(rate)) * stay(channels * positions, math.sqrt(rate))
    ),
}


def wanted_count(scheme: Scheme, shape: tuple[int, ...], rate: float) -> int:
    """Groups that stay, from the definition alone."""
    filters, channels, positions = shape[0], shape[1], math.prod(shape[2:])
    groups = int(groups_of(scheme, shape).max()) + 1
    if rate == 1:
        return groups
    if scheme.name in COUNTS:
        return COUNTS[scheme.name](scheme, filters, channels, positions, rate)
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


def rates_of(text: str) -> st.SearchStrategy[float]:
    """Rates that the scheme may have."""
    scheme = make_scheme(text)
    if hasattr(scheme, "kept"):
        return st.sampled_from([1, scheme.cell / scheme.kept])
    return st.just(1) if text == "dense" else st.sampled_from(RATES) | st.floats(1, 30)


cases = (
    st.sampled_from(TEXTS)
    .flatmap(
        lambda text: st.tuples(st.just(text), convolutions | matrices, rates_of(text), st.integers(0, 2**31)),
    )
    .filter(lambda case: legal(*case[:3]))
)


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
    for factor in (-1.0, 2.0**66, -(2.0**-66)):
        assert torch.equal(scheme.mask(weight * factor, rate), mask), "scale"
    if legal(text, shape, rate * 1.7) and text not in NOT_NESTED:
        assert not bool((scheme.mask(weight, rate * 1.7) & ~mask).any()), "nested"
    assert torch.equal(scheme.mask(weight.double(), rate), mask), "wider floats"
    assert bool(scheme.mask(weight, 1).all()), "identity"
    for dtype in (torch.float16, torch.bfloat16):
        narrow = weight.to(dtype)
        assert torch.equal(scheme.mask(narrow, rate), scheme.mask(narrow.double(), rate)), "narrower floats"


@settings(max_examples=100, deadline=None)
@given(cases, st.sampled_from(["zero", "constant", "integer", "pruned"]))
def test_ties_neither_lose_nor_keep_more(case: tuple[str, tuple[int, ...], float, int], kind: str) -> None:
    text, shape, rate, seed = case
    scheme, weight = make_scheme(text), random_weight(shape, seed)
    weight = {
        "zero": torch.zeros(shape),
        "constant": torch.full(shape, -0.3),
        "integer": weight.round(),
        "pruned": weight * make_scheme("unstructured").mask(weight, 4),
    }[kind]
    mask = scheme.mask(weight, rate)
    groups = groups_of(scheme, shape)
    assert len(set(groups[mask].tolist())) == wanted_count(scheme, shape, rate)
    assert not set(groups[mask].tolist()) & set(groups[~mask].tolist())


@settings(max_examples=60, deadline=None)
@given(cases)
def test_cells_keep_their_best(case: tuple[str, tuple[int, ...], float, int]) -> None:
    text, shape, rate, seed = case
    scheme = make_scheme(text)
    cells = scheme.cells(shape)
    if cells is None:
        return
    scores = torch.randn(scheme.group_count(shape), generator=torch.Generator().manual_seed(seed))
    kept, others = scheme.select(scores, shape, rate), scheme.select(-scores, shape, rate)
    assert cells.shape == scores.shape
    assert torch.equal(cells[kept].bincount(), cells[others].bincount()), "as many, whatever the scores"
    for cell in cells.unique().tolist():
        inside = cells == cell
        worst = scores[inside & kept].min()
        assert not bool((scores[inside & ~kept] > worst).any())


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
        ("block(2x2)", (7, 6), 3),
        ("block(2x2)", (3, 3, 2, 1), 3),
        ("column", (5, 3, 2, 2), 3),
        ("column", (4, 11), 2.5),
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


def tiles_of_two(rows: int, columns: int) -> Iterator[Tensor]:
    """All masks of one 4x4 tile cut off to rows x columns, two weights a row and a column, that keep most weights."""
    pairs = [[column in pair for column in range(4)] for pair in itertools.combinations(range(4), 2)]
    tiles = [torch.tensor(tile) for tile in itertools.product(pairs, repeat=4)]
    cut_off = {
        tuple(map(tuple, tile[:rows, :columns].tolist())) for tile in tiles if tile.sum(0).tolist() == [2, 2, 2, 2]
    }
    most = max(sum(map(sum, tile)) for tile in cut_off)
    return (torch.tensor(tile) for tile in cut_off if sum(map(sum, tile)) == most)


def shared(masks: Iterator[Tensor], filters: int) -> Iterator[Tensor]:
    """The masks of one filter, for so many filters in common."""
    return (mask.expand(filters, *mask.shape[1:]).clone() for mask in masks)


LEGAL_MASKS = [
    ("pattern(4)", (1, 4, 3, 3), 4.5, patterned(1, 4, 1, 2), 384),
    ("pattern(4)", (2, 2, 3, 3), 5, patterned(2, 2, 1, 1), 256),
    ("pattern(4, share=2)", (3, 2, 3, 3), 5, patterned(3, 2, 2, 1), 256),
    ("pattern(4)", (1, 3, 3, 3), 1.2, patterned(1, 3, 1, 3), 512),
    ("pcnn", (1, 2, 3, 3), 4, in_cells([list(range(9)), list(range(9, 18))], [2, 2], (1, 2, 3, 3)), 36**2),
    ("nm(2:4)", (1, 7), 7 / 4, in_cells([[0, 1, 2, 3], [4, 5, 6]], [2, 2], (1, 7)), 18),
    ("nm(1:4)", (2, 5), 4, in_cells([[0, 1, 2, 3], [4], [5, 6, 7, 8], [9]], [1] * 4, (2, 5)), 16),
    ("nm(1:2)", (1, 3, 2, 1), 2, in_cells([[0, 2], [4], [1, 3], [5]], [1] * 4, (1, 3, 2, 1)), 4),
    ("nm(2:4, share=4)", (3, 6), 2, shared(in_cells([[0, 1, 2, 3], [4, 5]], [2, 1], (1, 6)), 3), 12),
    ("transposable_nm(2:4)", (4, 4), 2, tiles_of_two(4, 4), 90),
    ("transposable_nm(2:4)", (4, 4, 1, 1), 2, (mask[..., None, None] for mask in tiles_of_two(4, 4)), 90),
    ("block_column(9x4)", (1, 7), 2, in_cells([[0, 1, 2, 3], [4, 5, 6]], [2, 2], (1, 7)), 18),
    ("block_row(3x2)", (5, 1), 2, in_cells([[0, 1, 2], [3, 4]], [2, 1], (5, 1)), 6),
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


@pytest.mark.parametrize(("rows", "columns"), [(5, 4), (4, 6), (7, 7), (5, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_tiles_that_are_cut_off_are_the_best_of_the_fullest(rows: int, columns: int, seed: int) -> None:
    weight = random_weight((rows, columns), seed)
    energy, mask = weight.double().square(), make_scheme("transposable_nm(2:4)").mask(weight, 2)
    for down in range(0, rows, 4):
        for across in range(0, columns, 4):
            area = (slice(down, down + 4), slice(across, across + 4))
            legal_masks = list(tiles_of_two(*energy[area].shape))
            best = max(float(energy[area][other].sum()) for other in legal_masks)
            assert any(torch.equal(mask[area], other) for other in legal_masks)
            assert float(energy[area][mask[area]].sum()) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_steps_of_block_row_and_column_are_exact(seed: int) -> None:
    weight = random_weight((4, 5), seed)
    energy = weight.double().square()
    mask = make_scheme("block_row_column(4x5)").mask(weight, 4)
    assert mask.any(1).sum() == 2
    columns = set(mask.any(0).nonzero().flatten().tolist())
    assert columns == set(max(itertools.combinations(range(5), 3), key=lambda some: float(energy[:, some].sum())))
    left = energy[:, sorted(columns)].sum(1)
    rows = set(mask.any(1).nonzero().flatten().tolist())
    assert rows == set(max(itertools.combinations(range(4), 2), key=lambda some: float(left[list(some)].sum())))


@pytest.mark.parametrize("seed", range(5))
def test_rows_and_columns_fit_each_other(seed: int) -> None:
    weight = random_weight((5, 5), seed)
    energy = weight.double().square()
    mask = make_scheme("row_column").mask(weight, 4)
    rows, columns = mask.any(1), mask.any(0)
    assert torch.equal(mask, rows[:, None] & columns), "a product of both"
    by_rows, by_columns = energy[:, columns].sum(1), energy[rows].sum(0)
    assert set(by_rows.topk(3).indices.tolist()) == set(rows.nonzero().flatten().tolist())
    assert set(by_columns.topk(3).indices.tolist()) == set(columns.nonzero().flatten().tolist())
    rows_once = torch.zeros(5, dtype=torch.bool)
    rows_once[energy.sum(1).topk(3).indices] = True
    one_round = float(energy[rows_once].sum(0).topk(3).values.sum())
    assert float(energy[mask].sum()) >= one_round - 1e-12


def retained_by(library: tuple[tuple[int, ...], ...], kernels: Tensor) -> float:
    return float(torch.stack([kernels[:, list(pattern)].sum(1) for pattern in library]).max(0).values.sum())


@pytest.mark.parametrize(("text", "rate"), [("derived_pattern(2)", 2.25), ("pcnn(2)", 4.5)])
@pytest.mark.parametrize("seed", range(4))
def test_libraries_are_nearly_the_best_there_are(text: str, rate: float, seed: int) -> None:
    weight = random_weight((5, 12, 3, 3), seed)
    kernels = weight.double().square().reshape(-1, 9)
    mask = make_scheme(text).mask(weight, rate).reshape(-1, 9)
    size = int(mask[0].sum())
    choices = [some for some in itertools.combinations(range(9), size) if text == "pcnn(2)" or 4 in some]
    assert len(choices) == (36 if text == "pcnn(2)" else 56)
    best = max(retained_by(pair, kernels) for pair in itertools.combinations(choices, 2))
    used = {tuple(row.nonzero().flatten().tolist()) for row in mask}
    assert len(used) <= 2
    assert used <= set(choices)
    assert float(kernels[mask].sum()) == pytest.approx(retained_by(tuple(used), kernels), rel=1e-12)
    assert float(kernels[mask].sum()) > 0.9 * best


def test_a_derived_library_retains_more_than_the_fixed_one() -> None:
    weight = random_weight((64, 32, 3, 3), 0) * torch.tensor([1.0, 0.2, 1.0, 0.2, 2.0, 0.2, 1.0, 0.2, 1.0]).reshape(
        3, 3
    )
    energy = weight.double().square()
    fixed, derived = (
        float(energy[make_scheme(text).mask(weight, 2.25)].sum()) for text in ("pattern(4)", "derived_pattern(8)")
    )
    assert derived > 1.1 * fixed


def test_large_layers_are_sampled_and_still_keep_their_own_patterns() -> None:
    weight = random_weight((96, 64, 3, 3), 0)
    for text, rate in (("pcnn(4)", 3), ("derived_pattern(4)", 5)):
        scheme = make_scheme(text)
        mask = scheme.mask(weight, rate)
        patterns = mask.reshape(-1, 9).unique(dim=0)
        assert len(patterns[patterns.any(1)]) <= 4
        assert torch.equal(scheme.mask(weight * mask, rate), mask)


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


@pytest.mark.parametrize("seed", range(8))
def test_rows_and_columns_are_the_best_for_each_other(seed: int) -> None:
    weight = random_weight((12, 20), seed)
    mask = make_scheme("row_column").mask(weight, 4)
    rows, columns, energy = mask.any(1), mask.any(0), weight.double().square()
    assert torch.equal(mask, rows[:, None] & columns)
    assert energy[:, columns].sum(1)[rows].min() >= energy[:, columns].sum(1)[~rows].max()
    assert energy[rows].sum(0)[columns].min() >= energy[rows].sum(0)[~columns].max()


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
        if legal(text, shape, 3) and make_scheme(text).name in WHOLE_LAYER
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
        ("transposable_nm(2:4)", (3, 8), "4x4 does not fit"),
        ("block_row(16x64)", (8, 8, 3, 3), "use block_punched"),
        ("derived_pattern(8)", (8, 8, 5, 5), "3x3"),
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
    with pytest.raises(UnknownScheme, match=", ".join(scheme_names())):
        make_scheme("filtre")


@pytest.mark.parametrize(
    "text",
    [
        *("", "filter(", "filter()x", "filter(0)", "filter(a)", "block_punched", "block_punched(8)", "dense(1)"),
        *("pattern", "pattern(5)", "pattern(4, share=0)", "pattern(4, 16)", "pcnn(0)", "pcnn(a)"),
        *("nm", "nm(4)", "nm(4:4)", "nm(0:4)", "nm(2:4, share=0)"),
        *("transposable_nm", "transposable_nm(4:4)", "transposable_nm(4:8)", "transposable_nm(2:4, share=2)"),
        *("block", "block(4)", "block_row", "block_row(0x4)", "block_column(4x)", "block_row_column", "column(4)"),
        *("row_column(2)", "derived_pattern", "derived_pattern(0)", "derived_pattern(8, share=0)"),
    ],
)
def test_malformed_texts(text: str) -> None:
    with pytest.raises(InvalidScheme):
        make_scheme(text)


@pytest.mark.parametrize("block", ["0x4", "8x0"])
def test_blocks_are_at_least_one_by_one(block: str) -> None:
    with pytest.raises(InvalidScheme, match="at least 1x1"):
        make_scheme(f"block_punched({block})")
