"""What a network loses with some of its weights, comparable between layers and schemes."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.errors import NonFiniteWeights, NothingToPrune
from pruning.target import Prunable

Loss = Callable[[Tensor, Tensor], Tensor]


class Importance(Protocol):
    """Estimates, in one unit for all layers, of what pruning costs."""

    def lost(self, name: str, mask: Tensor) -> float:
        """What goes with the weights of a module where `mask` (bool, its weight's shape) is False; not negative."""


class EnergyImportance:
    """Needs no data: the share of a layer's energy that goes, the relative error of its output under white inputs."""

    def __init__(self, model: nn.Module) -> None:
        """Raises NonFiniteWeights."""
        self._energy = {name: layer.weight.detach().double().square() for name, layer in _layers(model).items()}
        for name, energy in self._energy.items():
            _require_finite(name, energy)

    def lost(self, name: str, mask: Tensor) -> float:
        energy = self._energy[name]
        return float(energy[~mask].sum() / energy.sum().clamp_min(1e-300))


class MeasuredImportance:
    """What the loss really rises by when one layer alone loses these weights, at the price of measuring it each time.

    Args:
        model: a copy of it is measured.
        loss: of a model, on data that stay the same. It may recalibrate batch norms.

    Raises:
        NonFiniteWeights: a loss is not finite.
    """

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module], float]) -> None:
        self._model = copy.deepcopy(model)
        self._loss = loss
        self._whole = self._measure("")

    def lost(self, name: str, mask: Tensor) -> float:
        weight = _layers(self._model)[name].weight.data
        whole = weight.clone()
        try:
            weight.mul_(mask)
            return max(0.0, self._measure(name) - self._whole)
        finally:
            weight.copy_(whole)

    def _measure(self, name: str) -> float:
        loss = self._loss(self._model)
        if not math.isfinite(loss):
            raise NonFiniteWeights(
                f"the loss with {name or 'no layer'!r} pruned is {loss}; take the last good checkpoint"
            )
        return loss


class TaylorImportance:
    """What the loss changes by, to first order, if all of these weights go: mean over the batches of
    (sum_j w_j dL/dw_j)^2 over the weights that go (Molchanov et al. 2019, 1906.10771, equation 8, for the whole set).

    A sum over the set's groups instead, each with its own square, leaves out that groups stand in for each other: it
    thinks too little of taking a layer apart, and ranks plans far worse.

    Holds a number a weight and batch.

    Args:
        model: runs in evaluation mode; its weights, gradients and modes stay as they are.
        batches: (inputs, targets): many small ones, at least 500 samples.
        loss: of the model's outputs and the targets.

    Raises:
        NothingToPrune: there was no batch.
        NonFiniteWeights: a weight or a gradient is not finite.
    """

    def __init__(
        self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss = F.cross_entropy
    ) -> None:
        layers = _layers(model)
        weights = [layer.weight for layer in layers.values()]
        gains: dict[str, list[Tensor]] = {}
        with _evaluating(model, weights):
            for inputs, targets in batches:
                value = loss(model(inputs.to(weights[0].device)), targets.to(weights[0].device))
                gradients = torch.autograd.grad(value, weights, allow_unused=True)
                for name, weight, gradient in zip(layers, weights, gradients, strict=True):
                    if gradient is not None:
                        gains.setdefault(name, []).append((weight.detach() * gradient).flatten())
        if not gains:
            raise NothingToPrune("no batch was given to find the importance with; give at least one")
        self._gains = {name: torch.stack(found) for name, found in gains.items()}
        for name, found in self._gains.items():
            _require_finite(name, found)

    def lost(self, name: str, mask: Tensor) -> float:
        if name not in self._gains:
            return 0.0  # the loss does not depend on it
        return float(self._gains[name][:, ~mask.flatten()].sum(1).double().square().mean())


@contextmanager
def _evaluating(model: nn.Module, weights: Sequence[Tensor]) -> Iterator[None]:
    """Evaluation mode, and gradients of the weights; both as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    needed = [weight.requires_grad for weight in weights]
    try:
        model.eval()
        for weight in weights:
            weight.requires_grad_()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight, need in zip(weights, needed, strict=True):
            weight.requires_grad_(need)


def _layers(model: nn.Module) -> dict[str, Prunable]:
    return {name: module for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}


def _require_finite(name: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise NonFiniteWeights(f"weights or gradients of {name!r} are not finite; take the last good checkpoint")
