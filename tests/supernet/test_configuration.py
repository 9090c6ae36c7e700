from typing import Any

import pytest

from supernet import SearchSpace, make_space
from supernet.errors import InvalidSpace, NoFeasibleOperator, UnknownOperator


def test_stages_become_sites(tiny: SearchSpace) -> None:
    assert [(s.in_channels, s.out_channels, s.stride, s.size) for s in tiny.sites] == [
        (16, 32, 2, 16),
        (32, 64, 1, 8),
        (64, 64, 1, 8),
        (64, 64, 1, 8),
        (64, 128, 2, 8),
        (128, 128, 1, 4),
        (128, 128, 1, 4),
    ]


def test_a_site_without_operator_is_named(tiny_config: dict[str, Any]) -> None:
    with pytest.raises(NoFeasibleOperator, match=r"'0.0'.*skip: only a site with a shortcut"):
        make_space(tiny_config | {"operators": ["skip"]}, (1, 32, 32), 10)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"colour": 1}, "colour"),
        ({"stem": {"channels": 8, "stride": 1}}, "activation"),
        ({"schemes": ["filtre"]}, "filtre"),
        ({"rates": [0.5]}, "0.5"),
        ({"reference": "skip"}, "reference"),
        ({"stages": []}, "no sites"),
        ({"stem": {"channels": 0, "stride": 1, "activation": "relu"}}, "at least 1"),
        ({"head": {"channels": 8, "activation": "gelu"}}, "gelu"),
    ],
)
def test_what_contradicts_itself_is_refused(tiny_config: dict[str, Any], change: dict[str, Any], found: str) -> None:
    with pytest.raises(InvalidSpace, match=found):
        make_space(tiny_config | change, (1, 32, 32), 10)


def test_unknown_operators_are_named(tiny_config: dict[str, Any]) -> None:
    with pytest.raises(UnknownOperator, match="conv7x7"):
        make_space(tiny_config | {"operators": ["conv7x7"]}, (1, 32, 32), 10)


def test_images_are_square(tiny_config: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpace, match="32x24"):
        make_space(tiny_config, (1, 32, 24), 10)
