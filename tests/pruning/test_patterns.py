"""Plans that name layers by patterns."""

import pytest
import torch
from torch import nn

from pruning import Sparsity, prune
from pruning.errors import UnknownModule
from pruning.patterns import by_name

FILTER, BLOCKS = Sparsity("filter", 2), Sparsity("block_punched(4x1)", 3)


def net() -> nn.Module:
    def block() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))

    return nn.Sequential(block(), block(), nn.Flatten(), nn.Linear(4, 2))


def test_a_pattern_stands_for_layers_and_names_come_first() -> None:
    plan = by_name(net(), {"1.*": BLOCKS, "*.2": FILTER, "1.0": Sparsity()})
    assert plan == {"1.2": BLOCKS, "0.2": FILTER, "1.0": Sparsity()}


def test_what_fits_nothing_is_named_with_its_neighbours() -> None:
    with pytest.raises(UnknownModule, match=r"'01\.\*'.*did you mean '1\."):
        by_name(net(), {"01.*": FILTER})
    with pytest.raises(UnknownModule, match="'5'"):
        by_name(net(), {"5": FILTER})


def test_one_call_takes_patterns() -> None:
    report = prune(net(), torch.randn(1, 4, 9, 9), {"*.0": BLOCKS})
    assert [layer.name for layer in report.layers] == ["0.0", "1.0"]
