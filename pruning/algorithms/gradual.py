"""Gradual magnitude pruning: a little more goes after every epoch, and may come back (1710.01878)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from pruning.algorithm import ALGORITHMS, Algorithm
from pruning.assignment import Assignment, Hold
from pruning.errors import InvalidOption
from pruning.sparsity import Sparsity
from pruning.target import Target


@ALGORITHMS.add
class Gradual(Algorithm):
    """Raises sparsity from 0 to s_f = 1 - 1 / rate along a cubic curve (Zhu and Gupta, equation 1):

        s(t) = s_f (1 - (1 - (t - begin) / epochs)^3).

    After every epoch the masks are chosen anew from dense weights: those of removed groups are kept aside as they
    were, so that a group may return. In between the masks hold. A scheme with one rate takes it at once, patterns are
    there at once and connectivity follows.

    Args:
        begin: epochs before the first weights go.
        epochs: epochs from there until the sparsity is reached.
    """

    name: ClassVar[str] = "gradual"
    needs_training: ClassVar[bool] = True

    def __init__(self, assignment: Assignment, *, begin: int = 1, epochs: int = 20) -> None:
        super().__init__(assignment)
        if begin < 0 or epochs < 1:
            raise InvalidOption(f"begin {begin}, epochs {epochs}: whole numbers, begin >= 0 and epochs >= 1")
        self._begin = begin
        self._epochs = epochs
        self._epoch = 0
        self._kept: dict[str, Tensor] = {}
        self._aside: dict[str, Tensor] = {}

    @property
    def options(self) -> dict[str, Any]:
        return {"begin": self._begin, "epochs": self._epochs}

    @property
    def progress(self) -> float:
        """How much of the way to the plan's sparsity is behind, 0 to 1."""
        share = 1 - min(max((self._epoch - self._begin) / self._epochs, 0.0), 1.0)
        return 1 - share**3

    def after_epoch(self) -> dict[str, float]:
        """Prunes a little more. Reports `sparsity`, the share of the layers' weights that are removed."""
        if self.finished:
            return {}
        self._epoch += 1
        if self.progress > 0:
            self._aside = self._dense()
            self._kept = self.assignment.at(self._sparsity).masks(self._aside)
            self._restore()
            self._hold()
            self.after_step()
        removed = sum(int((~mask).sum()) for mask in self._kept.values())
        weights = sum(weight.numel() for weight in self.assignment.weights().values())
        return {"sparsity": removed / max(weights, 1)}

    def finish(self) -> None:
        if not self.finished:
            self._aside = self._dense()
            self._restore()
        super().finish()
        self._kept, self._aside = {}, {}

    def state_dict(self) -> dict[str, Any]:
        own = {"epoch": self._epoch, "kept": dict(self._kept), "aside": dict(self._aside)}
        return super().state_dict() | own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._kept, self._aside = (self._tensors(state, key) if state[key] else {} for key in ("kept", "aside"))
        self._epoch = int(state["epoch"])
        if self._kept:
            self._hold()

    def _sparsity(self, target: Target) -> Sparsity:
        """What is due now on the way to the layer's sparsity."""
        goal = target.sparsity
        if goal.scheme.one_rate or self.progress == 1:
            return goal
        return Sparsity(goal.scheme, 1 / (1 - (1 - 1 / goal.rate) * self.progress))

    def _dense(self) -> dict[str, Tensor]:
        """The weights, with those put aside in the place of removed ones."""
        weights = self.assignment.weights()
        if not self._kept:
            return {name: weight.clone() for name, weight in weights.items()}
        return {name: torch.where(self._kept[name], weight, self._aside[name]) for name, weight in weights.items()}

    def _restore(self) -> None:
        for name, weight in self.assignment.weights().items():
            weight.copy_(self._aside[name])

    def _hold(self) -> None:
        self._holds = [Hold(target.module, "weight", self._kept[target.name]) for target in self.assignment.targets]
