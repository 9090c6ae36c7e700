"""Layers are counted rightly, in networks from which they can be told."""

import pytest
import torch
from torch import nn

from benchmarks.errors import UnknownName
from benchmarks.layers import FAMILIES, LAYERS, find_layers, surroundings
from pruning import Sparsity


def flops(network, image):
    """Twice the multiply-accumulates of all convolutions, counted while they run."""
    counted = []

    def count(conv, _, output):
        counted.append(2 * conv.weight[0].numel() * output[0].numel())

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    return sum(counted)


@pytest.mark.parametrize("name", LAYERS)
def test_the_difference_of_two_networks_is_the_layer(name):
    layer = LAYERS[name]
    few, many = layer.counts
    difference = flops(*surroundings(layer, many)) - flops(*surroundings(layer, few))
    assert difference == (many - few) * layer.flops


def test_pruning_reaches_the_rate_and_keeps_the_size_of_outputs():
    network, _ = surroundings(LAYERS["3x3 128@28"], 3)
    norms = [float(conv.weight.detach().norm()) for conv in network.copies]
    rate = network.prune(Sparsity("block_punched(16x1)", 5))
    zeros = [float((conv.weight == 0).float().mean()) for conv in network.copies]
    assert rate == pytest.approx(5, rel=0.01)
    assert zeros == pytest.approx([0.8] * 3, abs=0.01)
    assert [float(conv.weight.detach().norm()) for conv in network.copies] == pytest.approx(norms, rel=1e-5)


def test_layers_are_found_by_name_and_family():
    assert [layer.name for layer in find_layers(["3x3 64@56"])] == ["3x3 64@56"]
    assert all({layer.family for layer in find_layers([family])} == {family} for family in FAMILIES)
    with pytest.raises(UnknownName, match="3x3s2"):
        find_layers(["5x5"])
