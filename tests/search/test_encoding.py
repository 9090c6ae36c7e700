from __future__ import annotations

import itertools

import numpy as np
import pytest

from search.encoding import Encoding, distance
from search.errors import StudyMismatch
from supernet import SearchSpace


def test_three_forms_of_a_candidate_agree(tiny: SearchSpace) -> None:
    encoding, rng = Encoding(tiny), np.random.default_rng(0)
    for _ in range(50):
        code = encoding.draw(rng)
        candidate = encoding.candidate(code)
        tiny.validate(candidate)
        assert encoding.code(candidate) == code
        params = encoding.params(code)
        assert encoding.from_params(params) == code
        assert list(params.values()) == [str(choice) for choice in candidate.choices]
        for name, distribution in encoding.distributions().items():
            assert params[name] in distribution.choices


def test_incomplete_parameters_are_no_candidate(toy: SearchSpace) -> None:
    assert Encoding(toy).from_params({"site_00": "conv3x3|dense|1"}) is None


def test_choice_of_another_space_is_refused_by_name(toy: SearchSpace) -> None:
    params = {f"site_{site:02d}": "conv3x3|filter|3" for site in range(3)}
    with pytest.raises(StudyMismatch, match=r"filter\|3.*site_00"):
        Encoding(toy).from_params(params)


@pytest.mark.parametrize("sites", [1, 2, 3])
def test_mutation_changes_exactly_so_many_sites_and_reaches_every_choice(toy: SearchSpace, sites: int) -> None:
    encoding, rng = Encoding(toy), np.random.default_rng(0)
    code = (0, 3, 5)
    children = {encoding.mutate(code, rng, sites) for _ in range(2000)}
    everything = itertools.product(range(6), repeat=3)
    assert children == {other for other in everything if distance(code, other) == sites}


def test_neighbours_are_all_codes_at_distance_one(toy: SearchSpace) -> None:
    neighbours = list(Encoding(toy).neighbours((0, 3, 5)))
    assert len(neighbours) == len(set(neighbours)) == 3 * 5
    assert all(distance(code, (0, 3, 5)) == 1 for code in neighbours)
