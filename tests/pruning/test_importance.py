"""Importance against its formula, and against what the loss really does."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pruning.errors import NonFiniteWeights, NothingToPrune
from pruning.importance import EnergyImportance, MeasuredImportance, TaylorImportance


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, groups=2), nn.Flatten(), nn.Linear(48, 3)
    )


def batches(count: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(5, 2, 6, 6, generator=generator), torch.randint(3, (5,), generator=generator))
        for _ in range(count)
    ]


def gradients(model: nn.Module, name: str) -> list[torch.Tensor]:
    """The weight's gradient in every batch, in evaluation mode."""
    found = []
    for inputs, labels in batches():
        model.zero_grad()
        F.cross_entropy(model.eval()(inputs), labels).backward()
        found.append(model.get_submodule(name).weight.grad.clone())
    return found


def test_taylor_is_the_squared_first_order_change_of_all_that_goes() -> None:
    model = net()
    weight = model[3].weight.detach()
    importance = TaylorImportance(model, batches())
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        mask = torch.rand(weight.shape, generator=generator) < 0.5
        changes = [float((weight * gradient)[~mask].sum()) for gradient in gradients(model, "3")]
        expected = sum(change**2 for change in changes) / len(changes)
        assert importance.lost("3", mask) == pytest.approx(expected, rel=1e-4)


def test_energy_is_the_share_that_goes() -> None:
    model = net()
    weight = model[0].weight.detach()
    mask = torch.ones_like(weight, dtype=torch.bool)
    mask[2:] = False
    importance = EnergyImportance(model)
    expected = float(weight[2:].square().sum() / weight.square().sum())
    assert importance.lost("0", mask) == pytest.approx(expected, rel=1e-6)
    assert importance.lost("0", torch.ones_like(mask)) == 0


def test_the_model_is_as_it_was() -> None:
    model = net().train()
    model[4].eval()
    model[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    TaylorImportance(model, batches())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model] == [True, True, True, True, False, True]
    assert [p.requires_grad for p in model.parameters()] == [False, *[True] * (len(list(model.parameters())) - 1)]
    assert all(p.grad is None for p in model.parameters())


def test_no_batch_and_no_numbers_are_named() -> None:
    with pytest.raises(NothingToPrune, match="at least one"):
        TaylorImportance(net(), [])
    model = net()
    model[3].weight.data[0] = float("nan")
    with pytest.raises(NonFiniteWeights, match="'3'"):
        EnergyImportance(model)


def test_measured_is_what_the_loss_rises_by() -> None:
    model = net().eval()
    ((inputs, labels),) = batches(1)

    def loss(candidate: nn.Module) -> float:
        return float(F.cross_entropy(candidate(inputs), labels).detach())

    importance = MeasuredImportance(model, loss)
    before = loss(model)
    rises = []
    for kept in range(0, 8, 2):
        mask = torch.zeros_like(model[0].weight, dtype=torch.bool)
        mask[kept:] = True
        pruned = copy.deepcopy(model)
        pruned[0].weight.data *= mask
        rises.append(loss(pruned) - before)
        assert importance.lost("0", mask) == pytest.approx(max(0.0, rises[-1]), abs=1e-6)
    assert max(rises) > 0 == rises[0]
    assert importance.lost("0", torch.ones_like(mask)) == 0
    assert loss(model) == before


def test_a_loss_that_is_no_number_is_named() -> None:
    with pytest.raises(NonFiniteWeights, match="nan"):
        MeasuredImportance(net(), lambda model: float("nan"))
