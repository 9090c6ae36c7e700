"""Pruning and masked training in one call are the two calls of `fit` that they stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pruning import Algorithm, Sparsity, make_algorithm
from search import fit_pruned
from training import Dataset, Recipe, Split, fit

RECIPE = Recipe(epochs=3, batch_size=8, lr=0.05, warmup_epochs=2.0)
OPTIONS = {"rho": [0.1], "epochs": 1, "period": 1}


@pytest.fixture
def data() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randn(24, 1, 8, 8, generator=generator), torch.arange(24) % 3)
    return Dataset("noise", split, split, split, 3)


def prunable() -> tuple[nn.Module, Algorithm]:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))
    plan = {"1": Sparsity("unstructured", 4)}
    return model, make_algorithm("admm", model, plan, torch.zeros(1, 1, 8, 8), **OPTIONS)


@pytest.mark.parametrize("pruning_epochs", [0, 1, 3])
def test_each_part_has_its_own_schedule_and_masks_hold_in_the_second(
    pruning_epochs: int, data: Dataset, tmp_path: Path
) -> None:
    model, algorithm = prunable()
    shown: list[float] = []
    fit_pruned(
        model, data, RECIPE, algorithm, pruning_epochs, tmp_path, seed=2, on_epoch=lambda r: shown.append(r["lr"])
    )
    expected, by_hand = prunable()
    rates: list[float] = []
    for epochs in (pruning_epochs, RECIPE.epochs - pruning_epochs):
        if epochs:
            recipe = replace(RECIPE, epochs=epochs, warmup_epochs=min(2.0, epochs))
            rates += fit(expected, data, recipe, algorithm=by_hand, seed=2)["lr"].tolist()
        by_hand.finish()
    assert shown == rates
    assert len(shown) == RECIPE.epochs
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert int((model.get_submodule("1").weight != 0).sum()) == 64 * 16 // 4
