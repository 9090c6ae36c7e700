"""The optimizer of every training loop."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.recipe import Recipe


def make_optimizer(weights: list[nn.Parameter], recipe: Recipe) -> torch.optim.SGD:
    """SGD with Nesterov momentum that decays filters and matrices, but neither biases nor batch norm."""
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def velocities(optimizer: torch.optim.SGD, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The momentum of every weight that has some, by the weight's name."""
    found = {name: optimizer.state[weight].get("momentum_buffer") for name, weight in weights.items()}
    return {name: velocity for name, velocity in found.items() if velocity is not None}


def restore_velocities(
    optimizer: torch.optim.SGD, weights: Mapping[str, nn.Parameter], found: Mapping[str, Tensor]
) -> None:
    """The inverse of `velocities`, on the weights' device."""
    for name, velocity in found.items():
        weight = weights[name]
        optimizer.state[weight]["momentum_buffer"] = velocity.to(weight.device)
