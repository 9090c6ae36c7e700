import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pruning import Sparsity, prune, shrink
from pruning.errors import CaptureFailed, ShrinkRefused

FILTER = Sparsity("filter", 2)


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad():
        result: Tensor = model.eval()(images)
    for module, mode in modes.items():
        module.training = mode
    return result


def zero(module: nn.Module, *indices: int) -> None:
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.dim():
                tensor[list(indices)] = 0


def assert_same_function(model: nn.Module, shrunken: nn.Module) -> None:
    fresh = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(outputs(shrunken, fresh), outputs(model, fresh), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rate", [2, 10])
@pytest.mark.parametrize("scheme", ["filter", "filter(4)", "channel"])
def test_shrunken_equals_masked(network: nn.Module, images: Tensor, scheme: str, rate: float) -> None:
    prune(network, images, Sparsity(scheme, rate))
    masked = copy.deepcopy(network)
    report = shrink(network, images)
    assert report.removed
    assert report.parameters_after < report.parameters_before
    assert report.parameters_after == sum(parameter.numel() for parameter in network.parameters())
    assert_same_function(masked, network)


def test_everything_zero_in_the_mobile_network_goes(mobile: nn.Module, images: Tensor) -> None:
    prune(mobile, images, {"expand": FILTER, "head": Sparsity("filter(4)", 2.5)})
    report = shrink(mobile, images)
    assert report.removed == {"expand": 12, "depth": 12, "head": 8}
    assert not report.kept
    depth = mobile.get_submodule("depth")
    assert (depth.in_channels, depth.out_channels, depth.groups, len(depth.weight)) == (12, 12, 12, 12)
    assert mobile.get_submodule("depth_bn").num_features == 12
    assert mobile.get_submodule("reduce").in_channels == 12
    assert mobile.get_submodule("classifier").in_features == 8


def test_features_behind_a_flatten_go(flat: nn.Module, images: Tensor) -> None:
    prune(flat, images, {"conv3": FILTER})
    shrink(flat, images)
    assert flat.get_submodule("hidden").in_features == 3 * 16


def test_channels_that_nobody_reads_go(residual: nn.Module, images: Tensor) -> None:
    prune(residual, images, {"conv2": Sparsity("channel", 2)})
    assert shrink(residual, images).removed == {"conv1": 5}


def test_what_only_unread_channels_read_goes_too(flat: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        flat.get_submodule("classifier").weight[:, 1:] = 0  # one hidden unit is read ...
        flat.get_submodule("hidden").weight[0, 16:] = 0  # ... and it reads one channel of conv3
    assert shrink(flat, images).removed == {"hidden": 13, "conv3": 5}


def test_negative_constants_die_in_relu(residual: nn.Module, images: Tensor) -> None:
    norm = residual.get_submodule("bn1")
    with torch.no_grad():
        norm.weight[2:4] = 0
        norm.bias[2:4] = torch.tensor([-0.5, 0.5])  # relu makes the first zero, the second stays
    masked = copy.deepcopy(residual)
    assert shrink(residual, images).removed == {"conv1": 1}
    assert_same_function(masked, residual)


def test_a_zero_filter_with_a_living_batch_norm_stays(residual: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        residual.get_submodule("conv1").weight[3] = 0
        residual.get_submodule("bn1").bias[3] = 3
    assert not shrink(residual, images).removed


def test_both_sides_of_an_addition_or_none(residual: nn.Module, images: Tensor) -> None:
    for name in ("conv4", "bn4"):
        zero(residual.get_submodule(name), 0, 1, 2)
    lone = copy.deepcopy(residual)
    report = shrink(lone, images)
    assert not report.removed
    assert report.kept["conv4"].startswith("3 filters are zero and stay")
    for name in ("down", "down_bn"):
        zero(residual.get_submodule(name), 1, 2, 3)
    masked = copy.deepcopy(residual)
    assert shrink(residual, images).removed == {"conv4": 2, "down": 2}
    assert_same_function(masked, residual)


def test_no_layer_loses_its_last_channel(residual: nn.Module, images: Tensor) -> None:
    for name in ("conv1", "bn1"):
        zero(residual.get_submodule(name), *range(10))
    masked = copy.deepcopy(residual)
    assert shrink(residual, images).removed == {"conv1": 9}
    assert_same_function(masked, residual)


def test_groups_keep_equally_many(flat: nn.Module, images: Tensor) -> None:
    zero(flat.get_submodule("conv1"), 0, 1, 2, 6)  # 3 of the first group's inputs, 1 of the second's
    zero(flat.get_submodule("conv2"), 0, 4, 5)
    masked = copy.deepcopy(flat)
    assert shrink(flat, images).removed == {"conv1": 2, "conv2": 2}
    conv2 = flat.get_submodule("conv2")
    assert (conv2.in_channels, conv2.out_channels, conv2.groups) == (10, 6, 2)
    assert_same_function(masked, flat)


def test_a_shared_module_is_cut_once(images: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.shared, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.shared(torch.relu(self.shared(torch.relu(self.stem(x)))))
            result: Tensor = self.head(x.mean((2, 3)))
            return result

    model = Twice()
    zero(model.stem, 1, 2)
    zero(model.shared, 2, 3)
    masked = copy.deepcopy(model)
    assert shrink(model, images).removed == {"stem": 1, "shared": 1}
    assert_same_function(masked, model)


def test_a_depthwise_multiplier_goes_with_its_input(images: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 12, 3, groups=6), nn.ReLU(), nn.Conv2d(12, 2, 1))
    zero(model[0], 1, 4)
    zero(model[2], 2, 3, 8)  # both outputs of input 1, but only one of input 4
    masked = copy.deepcopy(model)
    assert shrink(model, images).removed == {"0": 1, "2": 2}
    assert_same_function(masked, model)


def test_no_channels_no_change(network: nn.Module, images: Tensor) -> None:
    before = copy.deepcopy(network.state_dict())
    report = shrink(network, images)
    assert not report.layers
    assert report.parameters_after == report.parameters_before
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_modes_flags_objects_and_random_state_stay(mobile: nn.Module, images: Tensor) -> None:
    mobile.train()
    mobile.get_submodule("stem_bn").eval()
    weight = mobile.get_submodule("expand").weight.requires_grad_(False)
    state = torch.get_rng_state()
    prune(mobile, images, {"expand": FILTER})
    shrink(mobile, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert mobile.training
    assert not mobile.get_submodule("stem_bn").training
    assert mobile.get_submodule("expand").weight is weight
    assert not weight.requires_grad
    assert mobile.get_submodule("depth").weight.requires_grad


def test_inputs_that_the_model_overwrites_stay(images: Tensor) -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    zero(model[1], 0)
    before = images.clone()
    assert shrink(model, images).removed == {"1": 1}
    assert torch.equal(images, before)


def test_a_shrunken_network_trains_and_shrinks_again(mobile: nn.Module, images: Tensor) -> None:
    prune(mobile, images, {"expand": FILTER})
    shrink(mobile, images)
    optimizer = torch.optim.SGD(mobile.parameters(), lr=0.1)
    mobile.train()(images).square().mean().backward()
    optimizer.step()
    prune(mobile, images, {"expand": FILTER})
    assert shrink(mobile, images).removed == {"expand": 6, "depth": 6}


class Around(nn.Module):
    """An operation between two convolutions."""

    def __init__(self, operation: Callable[[Tensor], Tensor], inputs: int = 8) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(inputs, 4, 1)
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.operation(self.first(x)))
        return result


UNKNOWN: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "aten.cumsum": (lambda x: x.cumsum(1), 8),
    "aten.roll": (lambda x: x.roll(1, 1), 8),
    "aten.softmax": (lambda x: x.softmax(1), 8),
    "aten.sum": (lambda x: x.sum(1, keepdim=True), 1),
    "aten.layer_norm": (lambda x: nn.functional.layer_norm(x, x.shape[1:]), 8),
    "aten.slice": (lambda x: x[:, ::2], 4),
}


@pytest.mark.parametrize("operation", UNKNOWN)
def test_a_zero_filter_before_an_unknown_operation_is_refused(images: Tensor, operation: str) -> None:
    model = Around(*UNKNOWN[operation])
    zero(model.first, 2)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ShrinkRefused, match=operation):
        shrink(model, images)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_an_unread_channel_behind_an_unknown_operation_stays(images: Tensor) -> None:
    model = Around(*UNKNOWN["aten.roll"])
    with torch.no_grad():
        model.second.weight[:, 5] = 0
    masked = copy.deepcopy(model)
    assert not shrink(model, images).layers
    assert_same_function(masked, model)


@pytest.mark.parametrize("operation", UNKNOWN)
def test_an_unknown_operation_elsewhere_does_no_harm(images: Tensor, operation: str) -> None:
    model = nn.Sequential(Around(*UNKNOWN[operation]), nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    zero(model[1], 3, 4)
    masked = copy.deepcopy(model)
    assert shrink(model, images).removed == {"1": 2}
    assert_same_function(masked, model)


ELEMENTWISE = {
    "relu": torch.relu,
    "relu6": nn.functional.relu6,
    "hardswish": nn.functional.hardswish,
    "hardtanh": nn.functional.hardtanh,
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
    "leaky_relu": nn.functional.leaky_relu,
    "elu": nn.functional.elu,
    "tanh": torch.tanh,
    "max_pool": lambda x: nn.functional.max_pool2d(x, 3, 1, 1),
    "avg_pool": lambda x: nn.functional.avg_pool2d(x, 3, 1, 1),
    "adaptive": lambda x: nn.functional.adaptive_avg_pool2d(x, 2),
    "mean": lambda x: x.mean((-1, 2), keepdim=True),
    "view": lambda x: x.view(len(x), x.shape[1], -1, 1),
}


@pytest.mark.parametrize("operation", ELEMENTWISE)
def test_zero_stays_zero(images: Tensor, operation: str) -> None:
    model = Around(ELEMENTWISE[operation])
    zero(model.first, 2, 7)
    masked = copy.deepcopy(model)
    assert shrink(model, images).removed == {"first": 2}
    assert_same_function(masked, model)


@pytest.mark.parametrize(
    "operation", [torch.sigmoid, nn.functional.hardsigmoid, lambda x: nn.functional.hardtanh(x, 1, 2)]
)
def test_zero_that_does_not_stay_zero_stays(images: Tensor, operation: Callable[[Tensor], Tensor]) -> None:
    model = Around(operation)
    zero(model.first, 2)
    assert not shrink(model, images).removed


def test_overwritten_values_are_not_zero_any_more(images: Tensor) -> None:
    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.other, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            y.add_(self.other(x))
            result: Tensor = self.head(y)
            return result

    model = Overwrites()
    zero(model.first, 2)
    assert not shrink(model, images).removed


def test_a_channel_count_held_as_a_number_is_refused(images: Tensor) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8 * 64, 2)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.head(torch.relu(self.conv(x)).view(-1, 8 * 64))
            return result

    model = Fixed()
    zero(model.conv, 0)
    with pytest.raises(ShrinkRefused, match="channel count"):
        shrink(model, images)
    assert model.conv.out_channels == 8


def test_network_outputs_keep_their_width(images: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
    zero(model[0], 0, 1)
    report = shrink(model, images)
    assert not report.removed
    assert "0" in report.kept


def test_models_that_cannot_be_followed(images: Tensor) -> None:
    model = Around(lambda x: x if bool(x.sum() > 0) else -x)
    with pytest.raises(CaptureFailed, match="data-dependent"):
        shrink(model, images)
