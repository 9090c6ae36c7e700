from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pruning import Sparsity, project
from supernet import Candidate, Choice, SearchSpace, SuperNet, SupernetRecipe, extract, make_space, train_supernet
from training import Split, load_dataset


def candidates(space: SearchSpace, count: int) -> Iterator[Candidate]:
    rng = np.random.default_rng(0)
    yield space.largest()
    yield space.smallest()
    for _ in range(count):
        yield space.sample(rng)


def shaken(space: SearchSpace) -> SuperNet:
    """A supernet with batch norms far from the identity."""
    supernet = SuperNet(space).eval()
    generator = torch.Generator().manual_seed(0)
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.5, generator=generator)
    for name, buffer in supernet.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer, std=0.5, generator=generator)
        elif name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2, generator=generator)
    return supernet


def assert_equal_outputs(supernet: SuperNet, count: int) -> None:
    images = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for candidate in candidates(supernet.space, count):
            view, plain = supernet(images, candidate), extract(supernet, candidate)(images)
            assert (view - plain).abs().max() <= 1e-5 * max(1.0, view.abs().max().item()), str(candidate)


def test_output_equals_the_view(small: SearchSpace) -> None:
    assert_equal_outputs(shaken(small), 60)


def test_filters_are_ranked_by_the_inputs_that_survive(small: SearchSpace) -> None:
    """The first twelve filters of the last site are the largest, but only in channels that its producer loses."""
    supernet, half = SuperNet(small), Choice("conv3x3", Sparsity("filter", 2))
    first, second = (supernet.get_submodule(f"sites.{site}.conv3x3.conv1").get_parameter("weight") for site in (3, 4))
    kept = project(first, half.sparsity).flatten(1).any(1)
    with torch.no_grad():
        second[12:, kept] *= 2
        second[:12, ~kept] *= 10
    network = extract(supernet, Candidate((*small.largest().choices[:3], half, half)))
    assert torch.equal(network.get_submodule("sites.3.conv1").weight, first[kept])
    expected = project(second[:, kept], half.sparsity).flatten(1).any(1)
    assert not torch.equal(expected, project(second, half.sparsity).flatten(1).any(1))
    assert torch.equal(network.get_submodule("sites.4.conv1").weight, second[expected][:, kept])


def test_output_equals_the_view_in_the_space_that_ships(tiny: SearchSpace) -> None:
    assert_equal_outputs(shaken(tiny), 15)


def test_output_equals_the_view_after_training(small: SearchSpace) -> None:
    supernet = SuperNet(small)
    digits = load_dataset("digits", "unused")
    few = replace(digits, train=Split(digits.train.images[:320], digits.train.labels[:320]))
    train_supernet(supernet, few, SupernetRecipe(epochs=1, dense_share=0, mild_share=0))
    assert_equal_outputs(supernet.eval(), 30)


def test_widths_are_those_of_the_layers(small: SearchSpace) -> None:
    supernet = SuperNet(small)
    for candidate in candidates(small, 60):
        network = extract(supernet, candidate)
        layers = small.layers(candidate)
        assert network.layers == layers
        for layer in layers:
            module = network.get_submodule(layer.name)
            if layer.weight_shape:
                assert tuple(module.get_parameter("weight").shape) == layer.weight_shape
        names = {name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
        assert names == {layer.name for layer in layers if layer.weight_shape}


def test_masks_are_exact_in_the_shrunken_shapes(small: SearchSpace) -> None:
    supernet = SuperNet(small)
    for candidate in candidates(small, 30):
        masked, dense = extract(supernet, candidate), extract(supernet, candidate, masked=False)
        for layer in masked.layers:
            if not layer.weight_shape:
                continue
            weight = masked.get_submodule(layer.name).get_parameter("weight")
            original = dense.get_submodule(layer.name).get_parameter("weight")
            assert torch.equal(weight, original * project(original, layer.sparsity))
            assert torch.equal(weight != 0, project(original, layer.sparsity))


def test_the_extracted_network_is_a_copy(small: SearchSpace) -> None:
    supernet = SuperNet(small)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    state = torch.random.get_rng_state()
    network = extract(supernet, small.largest())
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


def test_a_step_of_training_moves_the_extracted_network(small: SearchSpace) -> None:
    network = extract(SuperNet(small), small.smallest())
    network(torch.randn(4, 1, 32, 32)).square().sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 17, 17)])
def test_other_inputs(tiny_config: dict[str, Any], shape: tuple[int, int, int]) -> None:
    space = make_space(tiny_config, shape, 5)
    supernet = SuperNet(space).eval()
    images = torch.randn(2, *shape)
    with torch.no_grad():
        for candidate in candidates(space, 5):
            view = supernet(images, candidate)
            assert view.shape == (2, 5)
            torch.testing.assert_close(extract(supernet, candidate)(images), view, atol=1e-5, rtol=1e-5)
