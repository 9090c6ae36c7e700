"""Filters and channels that are coupled are chosen once for all their layers."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from pruning import Sparsity, algorithm_names, make_algorithm, prune, shrink
from pruning.errors import UnsupportedLayer

FILTER, CHANNEL = Sparsity("filter", 2), Sparsity("channel", 2)
FIRST_STAGE = {"stem": FILTER, "conv2": FILTER}
SECOND_STAGE = {"conv4": FILTER, "down": FILTER}


def filters(mask: Tensor) -> Tensor:
    return mask.flatten(1).any(1)


def channels(mask: Tensor) -> Tensor:
    return mask.flatten(2).any(2).any(0)


def energies(weight: Tensor) -> Tensor:
    return weight.detach().double().square().flatten(1).sum(1)


def assert_shrinks(model: nn.Module, images: Tensor, removed: dict[str, int]) -> None:
    masked = copy.deepcopy(model).eval()
    assert shrink(model, images).removed == removed
    model.eval()
    for batch in (3, 7):
        fresh = torch.randn(batch, *images.shape[1:])
        torch.testing.assert_close(model(fresh), masked(fresh), rtol=1e-5, atol=1e-5)


def test_a_stage_keeps_the_filters_of_largest_summed_score(residual: nn.Module, images: Tensor) -> None:
    weights = [residual.get_submodule(name).weight.detach().clone() for name in SECOND_STAGE]
    masks = prune(residual, images, SECOND_STAGE).masks
    kept = filters(masks["conv4"])
    assert torch.equal(kept, filters(masks["down"]))
    score = sum(energies(weight) / energies(weight).mean() for weight in weights)
    best = max(itertools.combinations(range(16), 8), key=lambda chosen: float(score[list(chosen)].sum()))
    assert kept.nonzero()[:, 0].tolist() == list(best)
    assert_shrinks(residual, images, {"conv4": 8, "down": 8})


def test_large_weights_do_not_decide_alone(residual: nn.Module, images: Tensor) -> None:
    again = copy.deepcopy(residual)
    with torch.no_grad():
        again.get_submodule("down").weight.mul_(64)
    kept = [filters(prune(model, images, SECOND_STAGE).masks["down"]) for model in (residual, again)]
    assert torch.equal(*kept)


def test_stages_and_inner_layers_go_together(residual: nn.Module, images: Tensor) -> None:
    prune(residual, images, FIRST_STAGE | SECOND_STAGE | {"conv1": FILTER, "conv3": Sparsity("filter", 4)})
    removed = {"stem": 6, "conv1": 5, "conv2": 6, "conv3": 6, "conv4": 8, "down": 8}
    assert_shrinks(residual, images, removed)


def test_channels_go_from_all_that_read_them(residual: nn.Module, images: Tensor) -> None:
    masks = prune(residual, images, dict.fromkeys(("conv1", "conv3", "down"), CHANNEL)).masks
    assert torch.equal(channels(masks["conv1"]), channels(masks["conv3"]))
    assert torch.equal(channels(masks["conv1"]), channels(masks["down"]))
    assert_shrinks(residual, images, {"stem": 6, "conv2": 6})


def test_one_sparsity_for_all_prunes_whole_stages(residual: nn.Module, images: Tensor) -> None:
    report = prune(residual, images, FILTER)
    assert [layer.name for layer in report.layers] == ["conv1", "conv3", "conv4", "down"]
    assert report.skipped.keys() == {"stem", "conv2", "head"}
    assert "stem and conv2 are added" in report.skipped["conv2"]  # the stem is the first convolution
    assert_shrinks(residual, images, {"conv1": 5, "conv3": 4, "conv4": 8, "down": 8})


def test_one_channel_sparsity_for_all(residual: nn.Module, images: Tensor) -> None:
    report = prune(residual, images, CHANNEL)
    assert report.skipped.keys() == {"stem", "head"}
    assert_shrinks(residual, images, {"stem": 6, "conv1": 5, "conv2": 6, "conv3": 4})


REFUSALS = [
    ({"conv4": FILTER}, "the outputs of conv4 and down are added.*give all of them one filter sparsity"),
    ({"conv4": FILTER, "down": Sparsity("filter", 4)}, "conv4 and down are coupled.*different sparsities"),
    ({"conv1": CHANNEL, "conv3": CHANNEL}, "conv1 and conv3 and down read them.*one channel sparsity"),
]


@pytest.mark.parametrize(("plan", "text"), REFUSALS)
def test_parts_of_a_coupled_set_are_refused(
    residual: nn.Module, images: Tensor, plan: dict[str, Sparsity], text: str
) -> None:
    before = copy.deepcopy(residual.state_dict())
    with pytest.raises(UnsupportedLayer, match=text):
        prune(residual, images, plan)
    assert all(torch.equal(tensor, before[name]) for name, tensor in residual.state_dict().items())


def test_groups_of_a_convolution_choose_for_themselves(flat: nn.Module, images: Tensor) -> None:
    weight = flat.get_submodule("conv1").weight.detach().clone()
    kept = filters(prune(flat, images, {"conv1": FILTER}).masks["conv1"])
    for half in (slice(0, 6), slice(6, 12)):
        assert torch.equal(kept[half].nonzero()[:, 0], energies(weight)[half].topk(3).indices.sort().values)
    assert_shrinks(flat, images, {"conv1": 6})


def test_a_channel_behind_a_flatten_goes_with_all_its_features(flat: nn.Module, images: Tensor) -> None:
    mask = prune(flat, images, {"hidden": CHANNEL}).masks["hidden"]
    features = mask.any(0).reshape(6, 16)
    assert torch.equal(features.any(1), features.all(1))
    assert int(features.any(1).sum()) == 3
    assert_shrinks(flat, images, {"conv3": 3})


def test_alignment_counts_coupled_filters(residual: nn.Module, images: Tensor) -> None:
    aligned = Sparsity("filter(4)", 3)
    masks = prune(residual, images, {"stem": aligned, "conv2": aligned}).masks
    assert int(filters(masks["stem"]).sum()) == 4


class Gated(nn.Module):
    """Squeeze-excite with the gate's activation given."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)
        self.squeeze, self.excite, self.activation = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.body(self.stem(x)))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(x * gate)


def test_a_gate_follows_what_it_scales(images: Tensor) -> None:
    model = Gated(nn.ReLU())
    assert prune(model, images, {"body": FILTER}).masks.keys() == {"body"}
    assert_shrinks(model, images, {"body": 4, "excite": 4})


def test_a_gate_alone_silences_nothing(images: Tensor) -> None:
    with pytest.raises(UnsupportedLayer, match="body and excite"):
        prune(Gated(nn.ReLU()), images, {"excite": FILTER})


def test_filters_whose_zero_is_not_zero_later_are_refused(images: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sigmoid(), nn.Conv2d(8, 2, 1))
    with pytest.raises(UnsupportedLayer, match="not zero where it is read"):
        prune(model, images, {"0": FILTER})


class Fixed(nn.Module):
    """Holds a number of channels in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.free, self.conv = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 8, 1)
        self.head = nn.Linear(8 * 64, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(torch.relu(self.free(self.first(x))))).view(-1, 8 * 64))


def test_a_number_in_the_code_is_found_before_anything_is_pruned(images: Tensor) -> None:
    with pytest.raises(UnsupportedLayer, match=r"as a number for aten.view"):
        prune(Fixed(), images, {"conv": FILTER})
    model = Fixed()
    report = prune(model, images, FILTER)
    assert [layer.name for layer in report.layers] == ["free"]
    assert "as a number" in report.skipped["conv"]
    assert_shrinks(model, images, {"free": 3})


@pytest.mark.parametrize("name", algorithm_names())
def test_coupled_masks_hold_in_training(name: str, residual: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, residual, FIRST_STAGE | SECOND_STAGE, images)
    optimizer = torch.optim.SGD(residual.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    for step in range(6):
        if step == 3:
            algorithm.finish()
        optimizer.zero_grad()
        ((residual(images) - 1).square().mean() + algorithm.penalty()).backward()
        optimizer.step()
        algorithm.after_step()
    assert_shrinks(residual, images, {"stem": 6, "conv2": 6, "conv4": 8, "down": 8})
