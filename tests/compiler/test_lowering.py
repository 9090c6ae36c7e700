"""The kernels of a network whose weights change, found without code generation."""

import torch
from torch import nn

from compiler import Lowering, compile_model
from pruning import Sparsity, project


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)),
    ).eval()


def test_its_kernels_are_those_of_the_compiled_network_also_after_the_weights_changed() -> None:
    model, x = net(), torch.randn(1, 3, 8, 8)
    lowering = Lowering(model, x)
    dense = lowering.calls()
    assert tuple(call.spec for call in dense) == compile_model(model, x).specs
    weight = model[3].weight.data
    weight *= project(weight, Sparsity("block_punched(16x1)", 4))
    assert tuple(call.spec for call in lowering.calls()) == compile_model(model, x).specs
    (pruned,) = [call for call in lowering.calls() if call.layer == "3"]
    assert str(pruned.spec.sparsity) == "block_punched(16x1)@4"


def test_dead_filters_are_gone_and_come_back() -> None:
    model, x = net(), torch.randn(1, 3, 8, 8)
    lowering = Lowering(model, x)
    before = lowering.calls()
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    for tensor in (model[0].weight, model[0].bias, model[1].weight, model[1].bias, model[1].running_mean):
        tensor.data[4:] = 0
    (reader,) = [call.spec for call in lowering.calls() if call.layer == "3"]
    assert reader.in_channels == 4
    model.load_state_dict(saved)
    assert lowering.calls() == before
