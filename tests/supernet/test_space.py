import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pruning import Sparsity
from supernet import Candidate, Choice, SearchSpace, SuperNet, extract, make_space
from supernet.errors import InvalidCandidate, InvalidSpace


def drawn(space: SearchSpace, count: int, seed: int = 0) -> Iterator[Candidate]:
    rng = np.random.default_rng(seed)
    return (space.sample(rng) for _ in range(count))


def test_size_is_the_number_of_codes(small: SearchSpace) -> None:
    assert small.size == math.prod(len(small.choices(i)) for i in range(len(small.sites)))


def test_choices_are_canonical_and_distinct(tiny: SearchSpace) -> None:
    for i in range(len(tiny.sites)):
        choices = tiny.choices(i)
        assert len(set(choices)) == len(choices)
        assert all(choice == choice.canonical() for choice in choices)
        assert all(Choice.parse(str(choice)) == choice for choice in choices)


def test_encode_inverts_decode(tiny: SearchSpace) -> None:
    for candidate in drawn(tiny, 200):
        assert tiny.decode(tiny.encode(candidate)) == candidate


def test_sampling_is_uniform_over_the_choices(small: SearchSpace) -> None:
    count = 20_000
    codes = np.array([small.encode(candidate) for candidate in drawn(small, count)])
    for i, column in enumerate(codes.T):
        options = len(small.choices(i))
        expected = count / options
        observed = np.bincount(column, minlength=options)
        chi_squared = ((observed - expected) ** 2 / expected).sum()
        assert chi_squared < options - 1 + 5 * math.sqrt(2 * (options - 1))


def test_the_same_seed_draws_the_same_candidates(tiny: SearchSpace) -> None:
    assert list(drawn(tiny, 20, seed=3)) == list(drawn(tiny, 20, seed=3))
    assert list(drawn(tiny, 20, seed=3)) != list(drawn(tiny, 20, seed=4))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_samples_near_a_candidate_have_so_many_of_its_choices(small: SearchSpace, share: float) -> None:
    rng, end, count = np.random.default_rng(0), small.encode(small.largest()), 4000
    codes = np.array([small.encode(small.sample_near(small.largest(), share, rng)) for _ in range(count)])
    for i, column in enumerate(codes.T):
        options = len(small.choices(i))
        expected = share + (1 - share) / options
        deviation = math.sqrt(expected * (1 - expected) / count)
        assert abs(np.mean(column == end[i]) - expected) <= 5 * deviation


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_samples_nearer_than_at_the_candidate_are_refused(small: SearchSpace, share: float) -> None:
    with pytest.raises(ValueError, match="lies in"):
        small.sample_near(small.largest(), share, np.random.default_rng(0))


@pytest.mark.parametrize("sites", [1, 2, 4])
def test_mutation_changes_exactly_so_many_sites(small: SearchSpace, sites: int) -> None:
    rng = np.random.default_rng(0)
    for candidate in drawn(small, 50):
        mutant = small.mutate(candidate, rng, sites=sites)
        small.validate(mutant)
        assert sum(a != b for a, b in zip(candidate.choices, mutant.choices, strict=True)) == sites


def test_mutation_of_more_sites_than_there_are_is_refused(small: SearchSpace) -> None:
    with pytest.raises(ValueError, match="between 1 and 5"):
        small.mutate(small.largest(), np.random.default_rng(0), sites=6)


def test_neighbours_are_all_candidates_at_distance_one(small: SearchSpace) -> None:
    candidate = small.largest()
    neighbours = list(small.neighbours(candidate))
    assert len(set(neighbours)) == len(neighbours) == sum(len(small.choices(i)) - 1 for i in range(len(small.sites)))
    for other in neighbours:
        small.validate(other)
        assert sum(a != b for a, b in zip(candidate.choices, other.choices, strict=True)) == 1


def test_largest_is_dense_and_smallest_is_cheapest(tiny: SearchSpace) -> None:
    def macs(candidate: Candidate) -> float:
        return sum(layer.macs for layer in tiny.layers(candidate))

    assert set(tiny.largest().choices) == {Choice("conv3x3")}
    smallest = tiny.smallest()
    tiny.validate(smallest)
    assert all(macs(smallest) <= macs(candidate) for candidate in drawn(tiny, 200))


def test_relative_size_is_log_linear_from_the_smallest_to_the_largest(tiny: SearchSpace) -> None:
    def macs(candidate: Candidate) -> float:
        return sum(layer.macs for layer in tiny.layers(candidate))

    low, high = macs(tiny.smallest()), macs(tiny.largest())
    assert (tiny.relative_size(tiny.smallest()), tiny.relative_size(tiny.largest())) == (0, 1)
    sizes = [(macs(candidate), tiny.relative_size(candidate)) for candidate in drawn(tiny, 50)]
    between = [(counted, size) for counted, size in sizes if low < counted < high]
    assert len(between) > 40
    for counted, size in between:
        assert size == pytest.approx(math.log(counted / low) / math.log(high / low))
    assert all(size == 1 for counted, size in sizes if counted >= high)


def test_removal_is_legal_exactly_where_no_shortcut_needs_the_channels(tiny: SearchSpace) -> None:
    shortcuts = [site.shortcut for site in tiny.sites]
    assert shortcuts == [False, False, False, True, False, True, True]
    offered = {
        name: [any(str(c).startswith(f"conv3x3|{name}") for c in tiny.choices(i)) for i in range(len(tiny.sites))]
        for name in ("filter", "channel")
    }
    assert offered["filter"] == [True, True, False, False, False, False, False]
    assert offered["channel"] == [True, True, True, False, False, False, False]
    for i in range(len(tiny.sites)):
        texts = [str(choice) for choice in tiny.choices(i)]
        assert any(text.startswith("pw_dw3x3_pw(6)|filter") for text in texts)
        assert not any(text.startswith("pw_dw3x3_pw(6)|channel") for text in texts)
        assert ("skip|dense|1" in texts) == shortcuts[i]


def test_rates_that_keep_the_same_groups_are_one_choice(tiny: SearchSpace) -> None:
    site = tiny.sites[0]
    assert (site.in_channels, site.out_channels) == (16, 32)
    texts = [str(choice) for choice in tiny.choices(0)]
    # 32 filters in multiples of 8: 2, 2.5 and 3 keep 16; 5, 7 and 10 keep 8.
    assert [text for text in texts if text.startswith("conv3x3|filter")] == [
        "conv3x3|filter(8)|2",
        "conv3x3|filter(8)|5",
    ]
    # 48 expanded channels: 24, 24, 16, 16, 8, 8.
    assert [text for text in texts if text.startswith("pw_dw3x3_pw(3)|filter")] == [
        f"pw_dw3x3_pw(3)|filter(8)|{rate}" for rate in (2, 3, 7)
    ]


@pytest.mark.parametrize(
    ("site", "choice", "reason"),
    [
        (0, Choice("skip"), "shortcut"),
        (3, Choice("conv3x3", Sparsity("filter(8)", 2)), "site's output"),
        (2, Choice("conv3x3", Sparsity("filter(8)", 2)), "site's output"),
        (4, Choice("conv3x3", Sparsity("channel(8)", 2)), "site's input"),
        (0, Choice("pw_dw3x3_pw(6)", Sparsity("channel(8)", 2)), "not offered"),
        (0, Choice("conv3x3", Sparsity("filter(8)", 2.5)), "2, 5"),
        (0, Choice("conv3x3", Sparsity("filter(8)", 1)), "conv3x3|dense|1"),
        (0, Choice("conv3x3", Sparsity("unstructured", 2)), "schemes of this space"),
        (0, Choice("pw_dw3x3_pw(4)"), "operators of this space"),
    ],
)
def test_an_illegal_choice_is_refused_with_the_reason(
    tiny: SearchSpace, site: int, choice: Choice, reason: str
) -> None:
    choices = list(tiny.largest().choices)
    choices[site] = choice
    candidate = Candidate(tuple(choices))
    for refuse in (tiny.validate, tiny.encode, tiny.layers):
        with pytest.raises(InvalidCandidate) as caught:
            refuse(candidate)
        assert reason in str(caught.value)
        assert tiny.sites[site].name in str(caught.value)


def test_candidates_of_another_length_are_refused(tiny: SearchSpace) -> None:
    with pytest.raises(InvalidCandidate, match="7 sites"):
        tiny.encode(Candidate((Choice("conv3x3"),)))
    with pytest.raises(InvalidCandidate, match="7 sites"):
        tiny.decode((0,))
    with pytest.raises(InvalidCandidate, match="indices"):
        tiny.decode((999,) * 7)
    with pytest.raises(InvalidCandidate, match="the sites have"):
        tiny.decode((-1,) * 7)


def test_layers_connect(small: SearchSpace) -> None:
    for candidate in drawn(small, 200):
        layers = small.layers(candidate)
        assert layers[0].in_channels == 1
        assert layers[0].size == 32
        for before, after in pairwise(layers):
            assert after.in_channels == before.out_channels
            assert after.size == before.output_size
        assert layers[-1].out_channels == 10
        for layer in layers:
            assert layer.kind != "depthwise" or (layer.sparsity.dense and layer.in_channels == layer.out_channels)
            assert not layer.sparsity.scheme.removes_filters
            assert not layer.sparsity.scheme.removes_channels


def test_filters_and_channels_of_neighbours_leave_the_smaller_width(tiny: SearchSpace) -> None:
    def width(filters: float | None, channels: float | None) -> int:
        choices = list(tiny.largest().choices)
        if filters is not None:
            choices[1] = Choice("conv3x3", Sparsity("filter(8)", filters))
        if channels is not None:
            choices[2] = Choice("dw3x3_pw", Sparsity("channel(8)", channels))
        layers = {layer.name: layer for layer in tiny.layers(Candidate(tuple(choices)))}
        return layers["sites.1.conv1"].out_channels

    assert width(None, None) == 64
    assert width(2, None) == 32
    assert width(None, 5) == 16
    assert width(2, 5) == width(5, 2) == 16


def test_channels_of_the_first_site_narrow_the_stem(tiny: SearchSpace) -> None:
    choices = (Choice("conv3x3", Sparsity("channel(8)", 2)), *tiny.largest().choices[1:])
    assert tiny.layers(Candidate(choices))[0].out_channels == 8


def test_filters_of_the_last_site_narrow_the_head(small: SearchSpace) -> None:
    choices = (*small.largest().choices[:-1], Choice("conv3x3", Sparsity("filter(4)", 3)))
    head = next(layer for layer in small.layers(Candidate(choices)) if layer.name == "head.conv1")
    assert (head.in_channels, head.out_channels) == (8, 32)


def test_labels_and_edges(tiny: SearchSpace) -> None:
    labels = tiny.labels(tiny.largest())
    assert labels[0] == "0:conv3x3|dense|1"
    assert labels[-1] == "3:conv3x3|dense|1"
    assert set(tiny.edges) == {(i, i + 1) for i in range(6)} | {(2, 4), (4, 6)}


def test_description_reads_back(tiny: SearchSpace) -> None:
    again = SearchSpace.from_dict(tiny.to_dict())
    assert again == tiny
    assert again.fingerprint() == tiny.fingerprint()
    changed = SearchSpace.from_dict(tiny.to_dict() | {"rates": [1, 2]})
    assert changed.fingerprint() != tiny.fingerprint()


@pytest.mark.parametrize("change", [{"schemes": ["block"]}, {"rates": ["two"]}, {"rates": [0.5]}, {"sites": []}])
def test_a_broken_description_is_refused(tiny: SearchSpace, change: dict[str, object]) -> None:
    with pytest.raises((InvalidSpace, ValueError), match=r"space|block|two"):
        SearchSpace.from_dict(tiny.to_dict() | change)


def test_a_scheme_of_one_rate_is_offered_at_it_whatever_the_menu(tiny_config: dict[str, Any]) -> None:
    schemes = {"nm(1:4)": 4, "nm(3:4)": 4 / 3, "transposable_nm(2:4)": 2}
    space = make_space({**tiny_config, "schemes": list(schemes), "rates": [1, 1.5, 5]}, (1, 32, 32), 10)
    supernet, largest = SuperNet(space), space.largest().choices
    for site in range(len(space.sites)):
        found = {str(choice.sparsity.scheme): choice.sparsity.rate for choice in space.choices(site)}
        assert found == {"dense": 1, **schemes}
        for choice in space.choices(site):
            candidate = Candidate((*largest[:site], choice, *largest[site + 1 :]))
            assert Candidate.from_json(candidate.to_json()) == candidate
            extract(supernet, candidate)
