import itertools

import pytest
import torch
from torch import Tensor, nn

from pruning import Sparsity, make_algorithm


def pruned(model: nn.Module, layer: str, sparsity: Sparsity, example: Tensor) -> Tensor:
    algorithm = make_algorithm("lookahead", model, {layer: sparsity}, example)
    algorithm.finish()
    return algorithm.masks[layer]


@pytest.mark.parametrize("seed", range(5))
def test_the_weight_that_goes_distorts_the_product_least(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(*(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 5)))
    first, middle, last = (model[index].weight.detach().double() for index in (0, 2, 4))
    distortion = {}
    for row, column in itertools.product(range(3), range(4)):
        changed = middle.clone()
        changed[row, column] = 0
        distortion[row, column] = float((last @ changed @ first - last @ middle @ first).square().sum())
    mask = pruned(model, "2", Sparsity("unstructured", 12 / 11), torch.zeros(1, 3))
    assert [tuple(place) for place in (~mask).nonzero().tolist()] == [min(distortion, key=lambda key: distortion[key])]


def kept(scores: Tensor, count: int) -> Tensor:
    return torch.zeros_like(scores, dtype=torch.bool).flatten().scatter(0, scores.flatten().topk(count).indices, True)


def test_batch_norms_scale_and_depthwise_kernels_pass_on(mobile: nn.Module, images: Tensor) -> None:
    """In `mobile` reduce reads expand through a depthwise convolution, and stem and reduce are added before head."""

    def energy(name: str, axes: tuple[int, ...]) -> Tensor:
        return mobile.get_submodule(name).weight.detach().double().square().sum(axes)

    def scale(name: str) -> Tensor:
        norm = mobile.get_submodule(name)
        return norm.weight.detach().double().square() / (norm.running_var.double() + norm.eps)

    before = energy("expand", (1, 2, 3)) * scale("expand_bn") * energy("depth", (1, 2, 3)) * scale("depth_bn")
    behind = scale("reduce_bn") * (energy("head", (0, 2, 3)) + energy("expand", (0, 2, 3)))
    weight = mobile.get_submodule("reduce").weight.detach().double()[..., 0, 0]
    scores = weight.square() * before * behind[:, None]
    mask = pruned(mobile, "reduce", Sparsity("unstructured", 4), images)
    assert torch.equal(mask.flatten(), kept(scores, 48))


def test_flattened_channels_count_at_every_position(flat: nn.Module, images: Tensor) -> None:
    hidden, conv2 = flat.get_submodule("hidden").weight.detach().double(), flat.get_submodule("conv2")
    weight = flat.get_submodule("conv3").weight.detach().double()[..., 0, 0]
    before = conv2.weight.detach().double().square().sum((1, 2, 3))
    behind = hidden.square().sum(0).reshape(6, 16).sum(1)
    mask = pruned(flat, "conv3", Sparsity("unstructured", 2), images)
    assert torch.equal(mask.flatten(), kept(weight.square() * before * behind[:, None], 24))


def test_convolution_groups_have_their_own_neighbours(flat: nn.Module, images: Tensor) -> None:
    weight = flat.get_submodule("conv2").weight.detach().double()
    before = flat.get_submodule("conv1").weight.detach().double().square().sum((1, 2, 3))
    behind = flat.get_submodule("conv3").weight.detach().double().square().sum((0, 2, 3))
    mask = pruned(flat, "conv2", Sparsity("block_kernel(1x1)", 3), images).any(3).any(2)
    for group in (0, 1):
        rows, columns = slice(4 * group, 4 * group + 4), slice(6 * group, 6 * group + 6)
        scores = weight[rows].square().sum((2, 3)) * before[columns] * behind[rows, None]
        assert torch.equal(mask[rows].flatten(), kept(scores, 8))
