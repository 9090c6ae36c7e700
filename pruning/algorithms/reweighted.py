"""Reweighted group lasso: weak groups are pulled to zero, strong ones are left alone (2004.05531)."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from pruning.algorithm import ALGORITHMS, Algorithm
from pruning.assignment import Assignment
from pruning.errors import InvalidOption, UnsupportedLayer
from pruning.sparsity import Sparsity
from pruning.target import Target


@ALGORITHMS.add
class Reweighted(Algorithm):
    """Adds strength * sum_g n_g alpha_g ||W_g||^2 over the groups g, of n_g weights, to the loss, and sets

        alpha_g = 1 / (||W_g||^2 + eps),   eps = max((0.01 * median group norm of the layer)^2, n_g strength / 10),

    anew at the start of every round. A living group contributes about n_g, a dead one 0: a smooth count of living
    weights. The least eps keeps the gradient below 20 W, which is stable up to a learning rate of 0.1. Rates are the
    plan's, or they follow from the weights: with `removable`, as many groups go from each layer as hold that share of
    its energy at most, and the plan's rate only says which layers take part.

    Weight decay pulls the other way round, on strong groups most: leave it off these weights.

    Args:
        strength: of the penalty, which begins near strength * number of weights. A group goes, roughly, if its mean
            square is below 8 strength over the loss's curvature; short trainings need more.
        epochs: epochs of each round.
        rounds: how often alpha is set.
        removable: share of a layer's energy that may go, such as 0.002.
    """

    name: ClassVar[str] = "reweighted"
    needs_training: ClassVar[bool] = True

    def __init__(
        self,
        assignment: Assignment,
        *,
        strength: float = 1e-6,
        epochs: int = 10,
        rounds: int = 4,
        removable: float | None = None,
    ) -> None:
        super().__init__(assignment)
        if not (math.isfinite(strength) and strength > 0):
            raise InvalidOption(f"strength {strength}: a finite number above 0")
        if epochs < 1 or rounds < 1:
            raise InvalidOption(f"epochs {epochs}, rounds {rounds}: both are whole numbers >= 1")
        if removable is not None and not 0 <= removable < 1:
            raise InvalidOption(f"removable {removable}: a share of a layer's energy, 0 <= removable < 1, or none")
        for target in assignment.targets:
            if removable is not None and target.sparsity.scheme.one_rate:
                raise UnsupportedLayer(
                    f"{target.name!r}: {target.sparsity.scheme} has one rate, which cannot follow from the weights. "
                    "Leave removable out, or use another scheme."
                )
        self._strength = strength
        self._epochs_per_round = epochs
        self._rounds = rounds
        self._removable = removable
        self._epoch = 0
        self._alpha = {target.name: _alpha(target, strength) for target in assignment.targets}

    @property
    def options(self) -> dict[str, Any]:
        return {
            "strength": self._strength,
            "epochs": self._epochs_per_round,
            "rounds": self._rounds,
            "removable": self._removable,
        }

    def penalty(self) -> Tensor:
        total = torch.zeros(())
        if not self.finished:
            for target in self.assignment.targets:
                count = (self._alpha[target.name] * target.module.weight.float().square()).sum()
                total = total.to(count.device) + self._strength * count
        return total

    def after_epoch(self) -> dict[str, float]:
        """Sets alpha where a round begins. Reports `living`, the smooth count as a share of all weights."""
        if self.finished:
            return {}
        self._epoch += 1
        round_, within = divmod(self._epoch, self._epochs_per_round)
        if within == 0 and round_ < self._rounds:
            self._alpha = {target.name: _alpha(target, self._strength) for target in self.assignment.targets}
        with torch.no_grad():
            weights = sum(target.module.weight.numel() for target in self.assignment.targets)
            return {"living": float(self.penalty()) / self._strength / max(weights, 1)}

    def finish(self) -> None:
        if not self.finished and self._removable is not None:
            self.assignment = self.assignment.at(self._sparsity)
        super().finish()

    def _sparsity(self, target: Target) -> Sparsity:
        """The highest rate at which no more than the removable share of the layer's energy goes."""
        assert self._removable is not None
        scheme, parts = target.sparsity.scheme, target.module.weight.detach().chunk(target.groups)
        energies = [part.double().square() for part in parts]
        allowed = self._removable * float(sum(energy.sum() for energy in energies))
        groups = scheme.group_count(target.group_shape)
        fewest, enough = 1, groups
        while fewest < enough:
            middle = (fewest + enough) // 2
            kept = [scheme.best(energy, groups / middle) for energy in energies]
            removed = sum(float(energy[~mask].sum()) for energy, mask in zip(energies, kept, strict=True))
            fewest, enough = (fewest, middle) if removed <= allowed else (middle + 1, enough)
        return Sparsity(scheme, groups / enough)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"epoch": self._epoch, "alpha": dict(self._alpha)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._alpha = self._tensors(state, "alpha")
        self._epoch = int(state["epoch"])


def _alpha(target: Target, strength: float) -> Tensor:
    """n_g alpha_g of every weight's group, float32 of the weight's shape."""
    weight = target.module.weight.detach()
    energy = target.totals(weight.double().square())
    sizes = target.totals(torch.ones_like(weight))
    floor = torch.maximum((0.01 * energy[energy > 0].sqrt().median()).square(), strength * sizes / 10)
    return target.expand((sizes / (energy + floor)).float())
