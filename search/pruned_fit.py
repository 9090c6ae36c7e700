"""A network pruned while it is trained: towards its sparsity first, then under the masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from torch import nn

from training import Dataset, Hooks, Recipe, fit

PRUNING, MASKED = "pruning.safetensors", "masked.safetensors"


class Pruning(Hooks, Protocol):
    """Hooks that fix the masks at one moment, as every pruning algorithm does."""

    def finish(self) -> None:
        """Projects the weights; from now on the masks hold."""


def fit_pruned(
    network: nn.Module,
    data: Dataset,
    recipe: Recipe,
    algorithm: Pruning,
    pruning_epochs: int,
    folder: Path,
    *,
    teacher: nn.Module | None = None,
    seed: int = 0,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
) -> None:
    """Train in place for `pruning_epochs` of the recipe's, let the algorithm finish, train the rest under its masks.

    Each part warms up and decays by itself. The checkpoints lie in `folder`: the same call after an interruption goes
    on after the last whole epoch.

    Raises:
        What `fit` and the algorithm raise.
    """
    parts = ((pruning_epochs, PRUNING), (recipe.epochs - pruning_epochs, MASKED))
    for epochs, checkpoint in parts:
        if checkpoint == MASKED:
            algorithm.finish()
        if epochs:
            fit(
                network,
                data,
                replace(recipe, epochs=epochs, warmup_epochs=min(recipe.warmup_epochs, epochs)),
                algorithm=algorithm,
                teacher=teacher,
                seed=seed,
                on_epoch=on_epoch,
                checkpoint=folder / checkpoint,
            )
