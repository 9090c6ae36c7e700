import copy

import pytest
import torch
from torch import Tensor, nn

from pruning import Sparsity, algorithm_names, kept, make_algorithm, project, prune
from pruning.errors import (
    CaptureFailed,
    InvalidOption,
    InvalidRate,
    NeedsTraining,
    NonFiniteWeights,
    NothingToPrune,
    PruningError,
    UnknownAlgorithm,
    UnknownModule,
    UnsupportedLayer,
    ZeroWeights,
)

BLOCK = Sparsity("block_punched(4x1)", 3)
FILTER = Sparsity("filter", 2)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def assert_unchanged(model: nn.Module, before: dict[str, Tensor]) -> None:
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_named_layers_get_their_projection(residual: nn.Module, images: Tensor) -> None:
    before = snapshot(residual)
    report = prune(residual, images, {"conv1": BLOCK, "conv3": Sparsity("unstructured", 5), "conv2": Sparsity()})
    assert [layer.name for layer in report.layers] == ["conv1", "conv3"]
    for name, sparsity in [("conv1", BLOCK), ("conv3", Sparsity("unstructured", 5))]:
        mask = project(before[f"{name}.weight"], sparsity)
        assert torch.equal(report.masks[name], mask)
        assert torch.equal(residual.get_submodule(name).weight, before.pop(f"{name}.weight") * mask)
    after = residual.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_report_counts_what_is_there(residual: nn.Module, images: Tensor) -> None:
    (layer,) = prune(residual, images, {"conv1": BLOCK}).layers
    count = int((residual.get_submodule("conv1").weight != 0).sum())
    assert (layer.weights, layer.kept) == (1080, count)
    assert layer.effective_rate == 1080 / count


def test_a_report_is_printed_without_its_masks(residual: nn.Module, images: Tensor) -> None:
    assert "tensor" not in repr(prune(residual, images, {"conv1": BLOCK}))


def test_a_layer_whose_coupled_sets_all_stay_is_not_called_pruned(images: Tensor) -> None:
    """A group norm of 8 groups couples 32 filters to 8 sets, of which filter(8) keeps a multiple of 8."""
    layers = nn.Conv2d(3, 32, 3), nn.GroupNorm(8, 32), nn.Conv2d(32, 16, 1), nn.Conv2d(16, 8, 1)
    model = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(5))
    model(images)
    assert model[0].weight.shape[0] == 32
    with pytest.raises(UnsupportedLayer, match="8 coupled sets"):
        prune(model, images, {"0": Sparsity("filter(8)", 2)})
    report = prune(model, images, Sparsity("filter(8)", 2))
    assert all(layer.kept < layer.weights for layer in report.layers)
    with pytest.raises(UnsupportedLayer, match="8 coupled sets"):
        prune(model, images, {"2": Sparsity("channel(8)", 2)})
    assert prune(model, images, {"0": Sparsity("filter(4)", 2)}).layers[0].effective_rate == 2


def test_one_sparsity_spares_first_last_and_depthwise(mobile: nn.Module, images: Tensor) -> None:
    report = prune(mobile, images, Sparsity("block_punched(8x4)", 2))
    assert [layer.name for layer in report.layers] == ["expand", "reduce", "head"]
    assert report.skipped.keys() == {"stem", "depth", "classifier"}
    assert "first convolution" in report.skipped["stem"]
    assert "depthwise" in report.skipped["depth"]


def test_one_filter_sparsity_spares_what_is_added(mobile: nn.Module, images: Tensor) -> None:
    report = prune(mobile, images, FILTER)
    assert [layer.name for layer in report.layers] == ["expand", "head"]
    assert "stem and reduce are added" in report.skipped["reduce"]
    assert "outputs" in report.skipped["classifier"]


def test_removed_filters_are_silent_everywhere(mobile: nn.Module, images: Tensor) -> None:
    mask = prune(mobile, images, {"expand": FILTER}).masks["expand"]
    gone = ~mask.flatten(1).any(1)
    assert int(gone.sum()) == 12
    for name in ("expand_bn", "depth_bn"):
        norm = mobile.get_submodule(name)
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            assert not bool(tensor[gone].any())
            assert bool(tensor[~gone].all())
    assert not bool(mobile.get_submodule("depth").weight[gone].any())
    assert bool(mobile.get_submodule("depth").weight[~gone].any(dim=(1, 2, 3)).all())


def test_removed_filters_lose_their_bias(flat: nn.Module, images: Tensor) -> None:
    mask = prune(flat, images, {"conv3": FILTER}).masks["conv3"]
    assert torch.equal(flat.get_submodule("conv3").bias != 0, mask.flatten(1).any(1))


def test_channel_scores_ignore_removed_filters(residual: nn.Module, images: Tensor) -> None:
    conv1, conv2 = residual.get_submodule("conv1"), residual.get_submodule("conv2")
    with torch.no_grad():
        conv1.weight[:5] *= 0.01  # these filters go, though conv2 reads them with the largest weights
        conv2.weight[:, :5] *= 100
    masks = prune(residual, images, {"conv2": Sparsity("channel", 2), "conv1": FILTER}).masks
    assert masks["conv1"].flatten(1).any(1).tolist() == [False] * 5 + [True] * 5
    assert torch.equal(masks["conv1"].flatten(1).any(1), masks["conv2"].any(dim=(0, 2, 3)))


def test_grouped_convolutions_are_masked_group_by_group(flat: nn.Module, images: Tensor) -> None:
    conv2 = flat.get_submodule("conv2")
    with torch.no_grad():
        conv2.weight[:4] *= 100
    mask = prune(flat, images, {"conv2": FILTER}).masks["conv2"].flatten(1).any(1)
    assert mask[:4].sum() == mask[4:].sum() == 2


def test_width_follows_from_shape_and_rate_alone(residual: nn.Module, images: Tensor) -> None:
    masks = prune(residual, images, {"conv1": Sparsity("filter", 2.5), "conv2": Sparsity("channel", 3)}).masks
    assert int(masks["conv1"].flatten(1).any(1).sum()) == kept(10, 2.5)
    assert int(masks["conv2"].any(dim=(0, 2, 3)).sum()) == kept(10, 3)
    assert not bool((masks["conv2"].any(dim=(0, 2, 3)) & ~masks["conv1"].flatten(1).any(1)).any())


REFUSALS = [
    ({"conv9": BLOCK}, UnknownModule, "did you mean 'conv4'"),
    ({"bn1": BLOCK}, UnsupportedLayer, "BatchNorm2d"),
    ({"head": BLOCK}, UnsupportedLayer, "convolutions"),
    ({"conv2": FILTER}, UnsupportedLayer, "stem and conv2 are added"),
    ({"stem": FILTER}, UnsupportedLayer, "added"),
    ({"conv1": Sparsity("channel", 2)}, UnsupportedLayer, "added"),
    ({"head": FILTER}, UnsupportedLayer, "outputs"),
    ({"stem": Sparsity("channel", 2)}, UnsupportedLayer, "inputs"),
    ({"conv1": Sparsity("block_kernel(16x16)", 2)}, UnsupportedLayer, "as large as the layer"),
    ({"conv1": Sparsity("filter", 1.01)}, UnsupportedLayer, "too close to 1"),
    ({"conv1": Sparsity("unstructured", 2000)}, UnsupportedLayer, "1080 weights a group, and rate 2000"),
    ({"conv1": Sparsity("nm(2:4)", 3)}, InvalidRate, "its rate is 4/2"),
    ({"down": Sparsity("pattern(4)", 3)}, UnsupportedLayer, "3x3"),
]


@pytest.mark.parametrize(("plan", "error", "text"), REFUSALS)
def test_impossible_plans_change_nothing(
    residual: nn.Module, images: Tensor, plan: dict[str, Sparsity], error: type[PruningError], text: str
) -> None:
    before = snapshot(residual)
    with pytest.raises(error, match=text):
        prune(residual, images, {"conv3": BLOCK} | plan)
    assert_unchanged(residual, before)


def test_nan_is_found_before_anything_changes(residual: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        residual.get_submodule("conv4").weight[0, 0, 0, 0] = torch.nan
    before = snapshot(residual)
    with pytest.raises(NonFiniteWeights):
        prune(residual, images, {"conv3": BLOCK, "conv4": BLOCK})
    assert_unchanged(residual, before)


def test_layers_without_weights_to_rank_are_refused(residual: nn.Module, images: Tensor) -> None:
    nn.init.zeros_(residual.get_submodule("conv4").weight)
    before = snapshot(residual)
    with pytest.raises(ZeroWeights, match="'conv4' are zero"):
        prune(residual, images, {"conv3": BLOCK, "conv4": BLOCK})
    assert_unchanged(residual, before)


def test_one_sparsity_that_fits_nowhere_is_refused(flat: nn.Module, images: Tensor) -> None:
    before = snapshot(flat)
    with pytest.raises(NothingToPrune, match=r"no layer of Flat can take nm\(50:100\)@2.*'conv3': .*only 8 input"):
        prune(flat, images, Sparsity("nm(50:100)", 2))
    assert_unchanged(flat, before)


WITHOUT_TRAINING = {"geometric_median", "lookahead", "magnitude"}


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_one_call_takes_what_needs_no_training(algorithm: str, residual: nn.Module, images: Tensor) -> None:
    before = snapshot(residual)
    plan = {"conv1": FILTER, "conv3": BLOCK}
    if algorithm in WITHOUT_TRAINING:
        layers = prune(residual, images, plan, algorithm=algorithm).layers
        assert [(layer.name, layer.kept) for layer in layers] == [("conv1", 540), ("conv3", 288)]
    else:
        with pytest.raises(
            NeedsTraining, match=f"make_algorithm\\('{algorithm}'.*geometric_median, lookahead, magnitude"
        ):
            prune(residual, images, plan, algorithm=algorithm)
        assert_unchanged(residual, before)


def test_depthwise_layers_are_refused_by_name(mobile: nn.Module, images: Tensor) -> None:
    with pytest.raises(UnsupportedLayer, match=r"'depth'.*depthwise"):
        prune(mobile, images, {"depth": Sparsity("unstructured", 2)})


def test_shared_weights_are_refused(residual: nn.Module, images: Tensor) -> None:
    residual.add_module("twin", nn.Conv2d(12, 10, 3, bias=False))
    residual.get_submodule("twin").weight = residual.get_submodule("conv1").weight
    with pytest.raises(UnsupportedLayer, match="shares its weight with 'conv1'"):
        prune(residual, images, {"conv1": BLOCK, "twin": BLOCK})


def test_parametrised_weights_are_refused(residual: nn.Module, images: Tensor) -> None:
    nn.utils.parametrizations.weight_norm(residual.get_submodule("conv1"))
    with pytest.raises(UnsupportedLayer, match="parametrization"):
        prune(residual, images, {"conv1": BLOCK})


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x) if x.sum() > 0 else x
        return result


def test_models_that_cannot_be_followed(images: Tensor) -> None:
    model = DataDependent()
    prune(model, images, {"conv": BLOCK})  # needs no graph
    with pytest.raises(CaptureFailed, match="data-dependent"):
        prune(model, images, {"conv": FILTER})


def test_unknown_algorithm(residual: nn.Module, images: Tensor) -> None:
    with pytest.raises(UnknownAlgorithm, match="admm, geometric_median, gradual"):
        prune(residual, images, BLOCK, algorithm="magic")


def test_unknown_option(residual: nn.Module, images: Tensor) -> None:
    with pytest.raises(InvalidOption, match="rho, epochs, period"):
        make_algorithm("admm", residual, BLOCK, images, rhoo=1)


def test_prune_again_changes_nothing(network: nn.Module, images: Tensor) -> None:
    prune(network, images, FILTER)
    before = snapshot(network)
    prune(network, images, FILTER)
    assert_unchanged(network, before)


def test_modes_and_random_state_stay(mobile: nn.Module, images: Tensor) -> None:
    mobile.train()
    mobile.get_submodule("stem_bn").eval()
    state = torch.get_rng_state()
    prune(mobile, images, FILTER)
    assert torch.equal(torch.get_rng_state(), state)
    assert mobile.training
    assert not mobile.get_submodule("stem_bn").training
