"""Every scheme keeps the same laws; a new scheme joins by a line in TEXTS and its partition in GROUP_OF."""

import itertools
import math

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
)
GROUP_OF = {
    "dense": lambda scheme, index: 0,
    "unstructured": lambda scheme, index: index,
    "filter": lambda scheme, index: index[0],
    "channel": lambda scheme, index: index[1],
    "block_punched": lambda scheme, index: (index[0] // scheme.filters, index[1] // scheme.channels, *index[2:]),
    "block_kernel": lambda scheme, index: (index[0] // scheme.filters, index[1] // scheme.channels),
}
RATES = (1, 2, 2.5, 3, 5, 7, 10)


def groups_of(scheme: Scheme, shape: tuple[int, ...]) -> Tensor:
    """Group number of every weight, from the definition alone."""
    indices = itertools.product(*map(range, shape))
    keys = [GROUP_OF[scheme.name](scheme, index) for index in indices]
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return torch.tensor([numbers[key] for key in keys]).reshape(shape)


def wanted_count(scheme: Scheme, groups: int, rate: float) -> int:
    count = max(1, math.floor(groups / rate + 0.5))
    align = getattr(scheme, "align", 1)
    return min(groups, math.ceil(count / align) * align)


def group_energies(weight: Tensor, groups: Tensor) -> Tensor:
    energies = torch.zeros(int(groups.max()) + 1, dtype=torch.float64)
    return energies.index_add(0, groups.flatten(), weight.double().square().flatten())


def random_weight(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def legal(text: str, shape: tuple[int, ...], rate: float) -> bool:
    scheme = make_scheme(text)
    return scheme.supports(shape) is None and (scheme.name != "dense" or rate == 1)


convolutions = st.tuples(st.integers(1, 20), st.integers(1, 12), st.integers(1, 3), st.integers(1, 3))
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
    assert int((kept_weights > 0).sum()) == scheme.kept_groups(shape, rate) == wanted_count(scheme, len(sizes), rate)


@settings(max_examples=100, deadline=None)
@given(cases)
def test_projection_laws(case: tuple[str, tuple[int, ...], float, int]) -> None:
    text, shape, rate, seed = case
    scheme, weight = make_scheme(text), random_weight(shape, seed)
    mask = scheme.mask(weight, rate)
    assert torch.equal(scheme.mask(weight * mask, rate), mask), "idempotent"
    for factor in (-1.0, 2.0**20, -(2.0**-30)):
        assert torch.equal(scheme.mask(weight * factor, rate), mask), "scale"
    if scheme.name != "dense":
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
    count = wanted_count(scheme, len(energies), rate)
    subsets = itertools.combinations(energies.tolist(), count)
    assert math.comb(len(energies), count) <= 20_000
    best = max(map(math.fsum, subsets))
    retained = float((weight.double() * scheme.mask(weight, rate)).square().sum())
    assert retained == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "shape"),
    [(text, shape) for text in TEXTS for shape in [(6, 5, 3, 3), (33, 6, 1, 1), (7, 9)] if legal(text, shape, 3)],
)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_ties_go_to_the_lower_index(text: str, shape: tuple[int, ...], value: float) -> None:
    scheme = make_scheme(text)
    groups = groups_of(scheme, shape)
    sizes = groups.flatten().bincount()
    mask = scheme.mask(torch.full(shape, value), 3)
    count = wanted_count(scheme, len(sizes), 3)
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
    with pytest.raises(UnknownScheme, match="block_punched, channel, dense, filter, unstructured"):
        make_scheme("filtre")


@pytest.mark.parametrize(
    "text", ["", "filter(", "filter()x", "filter(0)", "filter(a)", "block_punched", "block_punched(8)", "dense(1)"]
)
def test_malformed_texts(text: str) -> None:
    with pytest.raises(InvalidScheme):
        make_scheme(text)


@pytest.mark.parametrize("block", ["0x4", "8x0"])
def test_blocks_are_at_least_one_by_one(block: str) -> None:
    with pytest.raises(InvalidScheme, match="at least 1"):
        make_scheme(f"block_punched({block})")
