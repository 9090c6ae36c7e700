from itertools import pairwise

import pytest

from supernet.errors import UnknownOperator
from supernet.operators import make_operator, operator_names
from supernet.site import Site

TEXTS = ["conv1x1", "conv3x3", "dw3x3_pw", "pw_dw3x3_pw(3)", "pw_dw3x3_pw(6)", "skip", "keep"]


@pytest.fixture
def site() -> Site:
    return Site("0.0", 0, in_channels=6, out_channels=10, stride=2, size=8, shortcut=False, activation="relu")


@pytest.mark.parametrize("text", TEXTS)
def test_text_reads_back(text: str) -> None:
    assert str(make_operator(text)) == text
    assert make_operator(text) == make_operator(text)


def test_every_name_is_covered() -> None:
    assert {text.partition("(")[0] for text in TEXTS} == set(operator_names())


@pytest.mark.parametrize("text", TEXTS[:-2])
def test_convolutions_connect_and_stride_once(text: str, site: Site) -> None:
    convs = make_operator(text).convs(site)
    assert convs[0].in_channels == site.in_channels
    assert convs[-1].out_channels == site.out_channels
    assert all(before.out_channels == after.in_channels for before, after in pairwise(convs))
    assert sorted(conv.stride for conv in convs) == [1] * (len(convs) - 1) + [site.stride]


def test_expansions_share_weights_and_differ_in_width(site: Site) -> None:
    narrow, wide = make_operator("pw_dw3x3_pw(3)"), make_operator("pw_dw3x3_pw(6)")
    assert narrow.family == wide.family
    assert narrow.convs(site)[1].in_channels * 2 == wide.convs(site)[1].in_channels


def test_keep_is_for_networks_that_have_layers(site: Site) -> None:
    assert "no layer to keep" in str(make_operator("keep").refuses(site))


def test_skip_needs_a_shortcut(site: Site) -> None:
    assert "shortcut" in str(make_operator("skip").refuses(site))


@pytest.mark.parametrize("text", ["conv5x5", "", "conv3x3(2)", "pw_dw3x3_pw", "pw_dw3x3_pw(0)", "pw_dw3x3_pw(a)"])
def test_unknown_operators_are_refused(text: str) -> None:
    with pytest.raises(UnknownOperator):
        make_operator(text)
