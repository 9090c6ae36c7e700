"""ADMM pruning: the weights are pulled towards a legal copy of themselves until the projection costs little."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from pruning.algorithm import ALGORITHMS, Algorithm
from pruning.assignment import Assignment
from pruning.errors import InvalidOption


@ALGORITHMS.add
class Admm(Algorithm):
    """Minimises f(W) subject to W_i in S_i, the tensors that have layer i's sparsity (YOLObile, 2009.05697).

    Every mini-batch adds sum_i rho / 2 * ||W_i - Z_i + U_i||^2; every `period` epochs

        Z_i <- Proj_i(W_i + U_i),   U_i <- U_i + W_i - Z_i.

    Each stage has its own rho and starts again with Z_i = Proj_i(W_i), U_i = 0; W carries over. After the last stage
    its rho stays until `finish`. Keep lr * rho well below 1.

    Args:
        rho: penalty of each stage.
        epochs: epochs of each stage.
        period: epochs between updates of Z and U, at most those of a stage.
    """

    name: ClassVar[str] = "admm"
    needs_training: ClassVar[bool] = True

    def __init__(
        self,
        assignment: Assignment,
        *,
        rho: Sequence[float] = (1e-3, 1e-2, 1e-1),
        epochs: int = 15,
        period: int = 3,
    ) -> None:
        super().__init__(assignment)
        if not rho or not all(math.isfinite(value) and value > 0 for value in rho):
            raise InvalidOption(f"rho {list(rho)}: give at least one stage, every penalty finite and above 0")
        if not 1 <= period <= epochs:
            raise InvalidOption(
                f"epochs {epochs}, period {period}: whole numbers, 1 <= period <= epochs; in a stage shorter than a "
                "period Z and U would never be updated"
            )
        self._rho = tuple(map(float, rho))
        self._epochs_per_stage = epochs
        self._period = period
        self._epoch = 0
        self._dual = {target.name: 0.0 for target in assignment.targets}
        self._restart()

    @property
    def options(self) -> dict[str, Any]:
        return {"rho": list(self._rho), "epochs": self._epochs_per_stage, "period": self._period}

    @property
    def epochs(self) -> int:
        """Epochs that all stages take together; `finish` belongs after them."""
        return len(self._rho) * self._epochs_per_stage

    @property
    def rho(self) -> float:
        """Penalty of the present stage."""
        return self._rho[min(self._epoch // self._epochs_per_stage, len(self._rho) - 1)]

    def penalty(self) -> Tensor:
        total = torch.zeros(())
        if not self.finished:
            for target in self.assignment.targets:
                distance = target.module.weight.float() - self._Z[target.name] + self._U[target.name]
                total = total.to(distance.device) + self.rho / 2 * distance.square().sum()
        return total

    def after_epoch(self) -> dict[str, float]:
        """Updates Z and U where due. Reports `rho`, and the largest over the layers of `primal_residual`
        ||W - Z|| / ||W|| (below 0.05 at the end is good) and of `dual_residual` rho * ||Z_new - Z_old||, and both for
        each layer, as `primal_residual/conv1`."""
        if self.finished:
            return {}
        rho, stage = self.rho, self._epoch // self._epochs_per_stage
        self._epoch += 1
        within = self._epoch - stage * self._epochs_per_stage
        if within % self._period == 0:
            self._dual = self._update(rho)
        report = {"rho": rho} | _report("primal_residual", self._primal()) | _report("dual_residual", self._dual)
        if within == self._epochs_per_stage and stage + 1 < len(self._rho):
            self._restart()
        return report

    def state_dict(self) -> dict[str, Any]:
        own = {"epoch": self._epoch, "dual": dict(self._dual), "Z": dict(self._Z), "U": dict(self._U)}
        return super().state_dict() | own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._Z, self._U = self._tensors(state, "Z"), self._tensors(state, "U")
        self._epoch, self._dual = int(state["epoch"]), dict(state["dual"])

    def _restart(self) -> None:
        self._Z = self._projected(self._weights())
        self._U = {name: torch.zeros_like(Z) for name, Z in self._Z.items()}

    def _update(self, rho: float) -> dict[str, float]:
        """One step of Z and U; the dual residual of every layer."""
        weights, before = self._weights(), self._Z
        self._Z = self._projected({name: weight + self._U[name] for name, weight in weights.items()})
        self._U = {name: U + weights[name] - self._Z[name] for name, U in self._U.items()}
        return {name: rho * float((Z - before[name]).norm()) for name, Z in self._Z.items()}

    def _primal(self) -> dict[str, float]:
        return {name: _relative(weight - self._Z[name], weight) for name, weight in self._weights().items()}

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.float() for name, weight in self.assignment.weights().items()}

    def _projected(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        masks = self.assignment.masks(tensors)
        return {name: tensor * masks[name] for name, tensor in tensors.items()}


def _report(what: str, layers: Mapping[str, float]) -> dict[str, float]:
    """The largest of the layers', and each of them."""
    return {what: max(layers.values(), default=0.0)} | {f"{what}/{name}": value for name, value in layers.items()}


def _relative(difference: Tensor, weight: Tensor) -> float:
    size = float(weight.norm())
    return float(difference.norm()) / size if size else 0.0
