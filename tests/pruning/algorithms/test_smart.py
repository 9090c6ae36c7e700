import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning import Sparsity, make_algorithm
from pruning.algorithms.smart import Smart
from pruning.errors import InvalidOption, UnsupportedLayer

QUARTER = {"0": Sparsity("block(2x2)", 4)}


def smart(model: nn.Module, plan: dict[str, Sparsity], **options: Any) -> Smart:
    algorithm = make_algorithm("smart", model, plan, torch.zeros(1, 8), **options)
    assert isinstance(algorithm, Smart)
    return algorithm


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8, bias=False))


def seen(model: nn.Module) -> Tensor:
    """The weight that the network computes with."""
    return model(torch.eye(8)).T


@pytest.mark.parametrize("scheme", ["block(2x2)", "nm(2:4)", "block_row(4x8)", "unstructured"])
def test_the_network_sees_softly_masked_weights_until_finish(scheme: str) -> None:
    model = linear()
    weight = model[0].weight.detach().clone()
    algorithm = smart(model, {"0": Sparsity(scheme, 2)}, temperature=[0.4, 0.01], epochs=3)
    names = list(model.state_dict())
    for _ in range(4):
        soft = (seen(model) / weight).detach()
        assert float(soft.sum()) == pytest.approx(32, abs=1e-4)
        if scheme == "nm(2:4)":
            torch.testing.assert_close(soft.reshape(8, 2, 4).sum(2), torch.full((8, 2), 2.0), atol=1e-4, rtol=0)
        algorithm.after_epoch()
    assert torch.equal(model[0].weight, weight)
    assert names == list(model.state_dict()) == ["0.weight"]
    algorithm.finish()
    assert int(algorithm.masks["0"].sum()) == 32
    assert torch.equal(seen(model), weight * algorithm.masks["0"])
    assert not model[0]._forward_pre_hooks
    assert not model[0]._forward_hooks


def test_the_temperature_falls_geometrically_and_stays() -> None:
    algorithm = smart(linear(), QUARTER, temperature=[1.0, 0.01], epochs=3)
    reports = [algorithm.after_epoch() for _ in range(5)]
    assert [report["temperature"] for report in reports] == pytest.approx([1, 0.1, 0.01, 0.01, 0.01])
    assert reports[0]["undecided"] > 0.1 > 0.01 > reports[4]["undecided"]


def test_logits_learn_what_the_weights_do_not_show() -> None:
    """The loss wants the smallest blocks; their weights are frozen, so that only the logits can say so."""
    model = linear()
    model[0].weight.requires_grad_(False)
    with torch.no_grad():
        model[0].weight.copy_(torch.linspace(1, 2, 64).reshape(8, 8))
    weight = model[0].weight.clone()
    algorithm = smart(model, QUARTER, epochs=40, lr=0.3)
    wanted = torch.zeros(8, 8)
    wanted[:2] = weight[:2]
    for _ in range(40):
        ((seen(model) - wanted).square().sum() + algorithm.penalty()).backward()
        algorithm.after_step()
        algorithm.after_epoch()
    algorithm.finish()
    assert torch.equal(algorithm.masks["0"], wanted != 0)


def test_steps_without_a_finite_gradient_are_left_out() -> None:
    model = linear()
    algorithm = smart(model, QUARTER)
    logits = algorithm.state_dict()["logits"]["0"].clone()
    (seen(model).sum() * torch.inf).backward()
    algorithm.after_step()
    assert torch.equal(algorithm.state_dict()["logits"]["0"], logits)


def test_looking_at_the_network_more_often_changes_nothing() -> None:
    results = []
    for looks in (0, 3):
        model = linear()
        algorithm = smart(model, QUARTER)
        for _ in range(3):
            seen(model).square().sum().backward()
            algorithm.after_step()
            for _ in range(looks):
                seen(model)
        results.append(seen(model))
    assert torch.equal(*results)


def test_copies_of_the_network_are_masked_too() -> None:
    model = linear()
    smart(model, QUARTER)
    assert torch.equal(seen(copy.deepcopy(model)), seen(model))


def test_a_forward_pass_that_fails_leaves_the_weight() -> None:
    model = linear()
    smart(model, QUARTER)
    with pytest.raises(RuntimeError, match="shapes"):
        model(torch.zeros(1, 5))
    assert model[0].weight is model[0]._parameters["weight"]


def test_templates_cannot_be_softened() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3))
    with pytest.raises(UnsupportedLayer, match="'0': pattern"):
        make_algorithm("smart", model, {"0": Sparsity("pattern(4)", 3)}, torch.zeros(1, 4, 8, 8))
    assert not model[0]._forward_pre_hooks


@pytest.mark.parametrize(
    "options", [{"temperature": [1.0]}, {"temperature": [1.0, 0.0]}, {"epochs": 0}, {"lr": float("nan")}]
)
def test_options_outside_their_range(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        smart(linear(), QUARTER, **options)
