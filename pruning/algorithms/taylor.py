"""Taylor importance: what the loss would lose, to first order, without a group (1906.10771)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from pruning.algorithm import ALGORITHMS, Algorithm
from pruning.assignment import Assignment
from pruning.errors import NeedsTraining, StateMismatch
from pruning.target import Target


@ALGORITHMS.add
class Taylor(Algorithm):
    """Keeps the groups of largest I_g = mean over the steps of (sum_{j in g} w_j dL/dw_j)^2 (equation 8).

    The steps are those of the last whole epoch, or of the one that `finish` interrupts if it is the first. Train with
    a small learning rate, or none: w and gradient belong to each other, but the network moves on. `after_step` must
    come before `zero_grad`.
    """

    name: ClassVar[str] = "taylor"
    needs_training: ClassVar[bool] = True

    def __init__(self, assignment: Assignment) -> None:
        super().__init__(assignment)
        self._before: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._importance: dict[str, Tensor] = {}

    def penalty(self) -> Tensor:
        """None; remembers the weights that the gradients of this step will be of."""
        if not self.finished:
            self._before = {name: weight.clone() for name, weight in self.assignment.weights().items()}
        return super().penalty()

    def after_step(self) -> None:
        super().after_step()
        for target in () if self.finished else self.assignment.targets:
            gradient = target.module.weight.grad
            if gradient is not None and target.name in self._before:
                gain = target.totals(self._before[target.name].float() * gradient.float()).double().square()
                self._sums[target.name] = self._sums.get(target.name, 0) + gain
        self._before = {}

    def after_epoch(self) -> dict[str, float]:
        if self._sums:
            self._importance, self._sums = self._sums, {}
        return {}

    def finish(self) -> None:
        """Raises NeedsTraining if there was no step with gradients yet."""
        if not self.finished and self.assignment.targets:
            self._importance = self._importance or self._sums
            missing = [target.name for target in self.assignment.targets if target.name not in self._importance]
            if missing:
                raise NeedsTraining(
                    f"taylor has seen no gradient of {', '.join(missing)}. Train an epoch with its hooks first, every "
                    "one of these layers trainable, and call after_step before zero_grad."
                )
        super().finish()
        self._sums, self._importance = {}, {}

    def rank(self, target: Target, weight: Tensor) -> Tensor:
        return target.spread(self._importance[target.name], weight != 0)

    def state_dict(self) -> dict[str, Any]:
        own = {"before": self._before, "sums": self._sums, "importance": self._importance}
        return super().state_dict() | {key: dict(tensors) for key, tensors in own.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._before = self._tensors(state, "before") if state["before"] else {}
        self._sums, self._importance = self._scores(state, "sums"), self._scores(state, "importance")

    def _scores(self, state: Mapping[str, Any], key: str) -> dict[str, Tensor]:
        """Copies of a state's scores, one a group of a target, on the target's device."""
        targets = {target.name: target for target in self.assignment.targets}
        scores = {}
        for name, found in state[key].items():
            if name not in targets or len(found) != len(targets[name].totals(targets[name].module.weight.detach())):
                raise StateMismatch(f"the state's {key} of {name!r} is not of this plan; start anew")
            scores[name] = found.to(targets[name].module.weight.device, copy=True)
        return scores
