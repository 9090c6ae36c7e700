import copy
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruning import Sparsity, make_scheme, project
from pruning.errors import InvalidRate, InvalidScheme, UnknownScheme

sparsities = st.builds(
    Sparsity,
    st.sampled_from(["filter", "channel(8)", "block_punched(16x1)", "unstructured"]),
    st.floats(1, 1e6) | st.integers(1, 20),
) | st.just(Sparsity())


@given(sparsities)
def test_text_and_dict_round_trip(sparsity: Sparsity) -> None:
    assert Sparsity.parse(str(sparsity)) == sparsity
    assert Sparsity.from_dict(json.loads(json.dumps(sparsity.to_dict()))) == sparsity
    assert hash(Sparsity.parse(str(sparsity))) == hash(sparsity)
    assert copy.deepcopy(sparsity) == sparsity


def test_text_forms() -> None:
    assert str(Sparsity("block_punched(16x1)", 5)) == "block_punched(16x1)@5"
    assert str(Sparsity("filter", 2.5)) == "filter@2.5"
    assert str(Sparsity()) == "dense"
    assert Sparsity.parse("dense@1") == Sparsity()


def test_scheme_may_be_text_or_object() -> None:
    assert Sparsity(make_scheme("filter(8)"), 2) == Sparsity("filter(8)", 2.0)


def test_rate_one_is_dense() -> None:
    assert Sparsity("filter", 1) != Sparsity()
    assert Sparsity("filter", 1).canonical() == Sparsity()
    assert Sparsity("filter", 2).canonical() == Sparsity("filter", 2)
    assert Sparsity("filter", 1).dense


@pytest.mark.parametrize("rate", [0.99, 0, -2, math.nan, math.inf])
def test_impossible_rates(rate: float) -> None:
    with pytest.raises(InvalidRate):
        Sparsity("filter", rate)


def test_dense_has_one_rate() -> None:
    with pytest.raises(InvalidRate, match="dense"):
        Sparsity("dense", 2)


@pytest.mark.parametrize(
    ("text", "error"),
    [("filter", InvalidScheme), ("filter@x", InvalidRate), ("filter@0", InvalidRate), ("nothing@2", UnknownScheme)],
)
def test_malformed_texts(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Sparsity.parse(text)


def test_project_is_the_schemes_mask() -> None:
    weight = torch.arange(1.0, 9).reshape(4, 2)
    assert project(weight, Sparsity("filter", 2)).tolist() == [[False] * 2, [False] * 2, [True] * 2, [True] * 2]
