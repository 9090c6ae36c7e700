"""SMART: importance is learned apart from the weights, by a soft mask that hardens as it cools (2403.19969)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pruning.algorithm import ALGORITHMS, Algorithm
from pruning.assignment import Assignment
from pruning.errors import InvalidOption, StateMismatch, UnsupportedLayer
from pruning.relaxation import soft_mask, thresholds
from pruning.target import Target

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@ALGORITHMS.add
class Smart(Algorithm):
    """Every group has a logit m beside its weights; the network computes with W * f(m), where f is a soft mask that
    sums to exactly the number of groups that are to stay (see `relaxation`). Its temperature falls geometrically,
    epoch by epoch; `finish` keeps the groups of largest m.

    Logits start as the groups' norms, standardised within the layer, and are trained by Adam of their own. The layers
    have forward hooks from the start until `finish`; parameters and their names stay what they are.

    Args:
        temperature: at first and at last.
        epochs: epochs in which it falls.
        lr: of the logits.
    """

    name: ClassVar[str] = "smart"
    needs_training: ClassVar[bool] = True

    def __init__(
        self,
        assignment: Assignment,
        *,
        temperature: Sequence[float] = (1.0, 1e-3),
        epochs: int = 30,
        lr: float = 0.01,
    ) -> None:
        super().__init__(assignment)
        if len(temperature) != 2 or not all(math.isfinite(value) and value > 0 for value in temperature):
            raise InvalidOption(f"temperature {list(temperature)}: two finite numbers above 0, the first and the last")
        if epochs < 1 or not (math.isfinite(lr) and lr >= 0):
            raise InvalidOption(f"epochs {epochs}, lr {lr}: a whole number >= 1, and a finite number >= 0")
        self._first, self._last = map(float, temperature)
        self._epochs = epochs
        self._lr = lr
        self._epoch = 0
        self._layers = {target.name: _Layer(target) for target in assignment.targets}
        self._optimizer = torch.optim.Adam([{"params": [layer.logits for layer in self._layers.values()]}], lr)
        self._solve()
        self._handles: list[RemovableHandle] = []
        self._attach()

    @property
    def options(self) -> dict[str, Any]:
        return {"temperature": [self._first, self._last], "epochs": self._epochs, "lr": self._lr}

    @property
    def temperature(self) -> float:
        """Of the present epoch."""
        progress = min(self._epoch / max(self._epochs - 1, 1), 1.0)
        return float(self._first * (self._last / self._first) ** progress)

    def after_step(self) -> None:
        """Moves the logits too; not where a gradient is not finite, as in steps that a gradient scaler leaves out."""
        super().after_step()
        if self.finished:
            return
        gradients = [layer.logits.grad for layer in self._layers.values() if layer.logits.grad is not None]
        if gradients and all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            self._optimizer.step()
            self._solve()
        self._optimizer.zero_grad()

    def after_epoch(self) -> dict[str, float]:
        """Cools. Reports `temperature`, and `undecided`, the mean of min(f, 1 - f): near 0 when the masks are hard."""
        if self.finished:
            return {}
        report = {"temperature": self.temperature, "undecided": self._undecided()}
        self._epoch += 1
        self._solve()
        return report

    def rank(self, target: Target, weight: Tensor) -> Tensor:
        logits = self._layers[target.name].logits.detach()
        order = logits.argsort(descending=True, stable=True)
        places = torch.empty_like(logits, dtype=torch.float64)
        places[order] = torch.linspace(2, 1, len(logits), dtype=torch.float64, device=logits.device)
        return target.spread(places, weight != 0)

    def finish(self) -> None:
        super().finish()
        self._detach()

    def state_dict(self) -> dict[str, Any]:
        layers = self._layers.items()
        moments = {name: self._optimizer.state.get(layer.logits, {}) for name, layer in layers}
        return super().state_dict() | {
            "epoch": self._epoch,
            "logits": {name: layer.logits.detach() for name, layer in layers},
            "thresholds": {name: layer.threshold for name, layer in layers},
            "moments": {name: dict(found) for name, found in moments.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for name, layer in self._layers.items():
            logits, threshold = state["logits"].get(name), state["thresholds"].get(name)
            if logits is None or logits.shape != layer.logits.shape or threshold.shape != layer.threshold.shape:
                raise StateMismatch(f"the state's logits of {name!r} are not of this plan; start anew")
            layer.logits.data.copy_(logits)
            layer.threshold = threshold.to(layer.logits.device, copy=True)
            moments = state["moments"][name]
            self._optimizer.state[layer.logits] = {key: moments[key].clone() for key in MOMENTS if key in moments}
        self._epoch = int(state["epoch"])
        self._detach()
        if not self.finished:
            self._attach()

    def _solve(self) -> None:
        for layer in self._layers.values():
            layer.solve(self.temperature)

    def _undecided(self) -> float:
        with torch.no_grad():
            masks = [layer.soft(self.temperature) for layer in self._layers.values()]
        total = sum(float(torch.minimum(mask, 1 - mask).sum()) for mask in masks)
        return total / max(sum(len(mask) for mask in masks), 1)

    def _attach(self) -> None:
        for target in self.assignment.targets:
            self._handles += [
                target.module.register_forward_pre_hook(self._masking(target)),
                target.module.register_forward_hook(_unmask, always_call=True),
            ]

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _masking(self, target: Target) -> Callable[[nn.Module, Any], None]:
        layer = self._layers[target.name]

        def mask(module: nn.Module, inputs: Any) -> None:
            weight = module._parameters["weight"]
            assert weight is not None
            module.__dict__["weight"] = weight * target.expand(layer.soft(self.temperature))

        return mask


def _unmask(module: nn.Module, inputs: Any, output: Any) -> None:
    module.__dict__.pop("weight", None)


class _Layer:
    """The logits of one target, [groups * scheme's groups], and what their soft mask has to sum to."""

    def __init__(self, target: Target) -> None:
        scheme, shape = target.sparsity.scheme, target.group_shape
        cells = scheme.cells(shape)
        if cells is None:
            raise UnsupportedLayer(
                f"{target.name!r}: {scheme} is no choice of the best groups, which is what smart relaxes. Use another "
                "scheme, or another algorithm."
            )
        device = target.module.weight.device
        kept = scheme.select(torch.zeros(len(cells), dtype=torch.float64), shape, target.sparsity.rate)
        quotas = cells[kept].bincount(minlength=int(cells.max()) + 1)
        self.cells = torch.cat([cells + part * len(quotas) for part in range(target.groups)]).to(device)
        self.quotas = quotas.repeat(target.groups).double().to(device)
        norms = target.totals(target.module.weight.detach().double().square()).sqrt()
        spread = norms.std(correction=0)
        logits = (norms - norms.mean()) / torch.where(spread > 0, spread, 1)
        self.logits = logits.float().requires_grad_()
        self.threshold = torch.zeros_like(self.quotas)

    def solve(self, temperature: float) -> None:
        """Fits the thresholds to logits or a temperature that changed."""
        self.threshold = thresholds(self.logits, self.cells, self.quotas, temperature, self.threshold)

    def soft(self, temperature: float) -> Tensor:
        """The soft mask of every group."""
        return soft_mask(self.logits, self.cells, self.threshold, temperature)
