"""Lookahead: a weight counts as much as it distorts what its neighbouring layers make of it (2002.04809)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from pruning.algorithm import ALGORITHMS, Algorithm
from pruning.assignment import Assignment
from pruning.dependency.channels import Trace
from pruning.dependency.tracing import trace
from pruning.target import Prunable, Target


@ALGORITHMS.add
class Lookahead(Algorithm):
    """Keeps the groups of largest sum over their weights of

        W_i[j, k]^2 * ||W_{i-1}[k]||^2 * ||W_{i+1}[:, j]||^2   (equation 5),

    neighbours summed over kernel positions too: the squared distortion of the three layers' linear product when the
    weight goes. Batch norms multiply by (gamma / std)^2, depthwise convolutions by their channel's energy, parallel
    paths add, and a missing neighbour is 1.
    """

    name: ClassVar[str] = "lookahead"

    def __init__(self, assignment: Assignment) -> None:
        super().__init__(assignment)
        self._trace = trace(assignment.model, assignment.example_inputs)
        self._before: dict[str, Tensor] = {}
        self._behind: dict[str, Tensor] = {}

    def finish(self) -> None:
        if not self.finished:
            self._before, self._behind = _neighbours(self.assignment.model, self._trace)
        super().finish()

    def choose(self, target: Target, group: int, weight: Tensor) -> Tensor:
        energy = weight.double().square()
        rest = [1] * (weight.dim() - 2)
        if target.name in self._before:
            before = self._before[target.name].chunk(target.groups)[group]
            behind = self._behind[target.name].chunk(target.groups)[group]
            energy *= before.to(energy.device).reshape(1, -1, *rest) * behind.to(energy.device).reshape(-1, 1, *rest)
        return target.sparsity.scheme.best(energy, target.sparsity.rate)


@torch.no_grad()
def _neighbours(model: nn.Module, followed: Trace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For every layer ||W_{i-1}[k]||^2 of its input channels k, and ||W_{i+1}[:, j]||^2 of its output channels j."""
    norms = {int(norm.ids[0]): model.get_submodule(norm.name) for norm in followed.norms}
    layers = {layer.name: layer for layer in followed.layers}
    made, read, between = (torch.full((followed.size,), value, dtype=torch.float64) for value in (0, 0, 1))
    makers, readers = followed.marked([]), followed.marked([])
    scales = {}
    for name, layer in layers.items():
        module = model.get_submodule(name)
        assert isinstance(module, Prunable)
        energy = module.weight.cpu().double().square().reshape(*module.weight.shape[:2], -1).sum(2)
        inputs, outputs = followed.sets(layer.inputs.ids), followed.sets(layer.outputs.ids)
        scales[name] = _scale(norms.get(int(layer.outputs.ids[0])), len(energy))
        out = energy.sum(1) * scales[name]
        if layer.depthwise:
            between[outputs] *= torch.zeros_like(between).index_add_(0, outputs, out)[outputs]
        else:
            made.index_add_(0, outputs, out)
            read.index_add_(0, inputs, energy.reshape(layer.groups, -1, energy.shape[1]).sum(1).flatten())
            makers[outputs], readers[inputs] = True, True
    made, read = torch.where(makers, made, 1.0) * between, torch.where(readers, read, 1.0) * between
    before = {name: made[followed.sets(layer.inputs.ids)] for name, layer in layers.items()}
    behind = {name: scales[name] * read[followed.sets(layer.outputs.ids)] for name, layer in layers.items()}
    return before, behind


def _scale(norm: nn.Module | None, channels: int) -> Tensor:
    """(gamma / std)^2 of the batch norm behind a layer, ones without."""
    scale = torch.ones(channels, dtype=torch.float64)
    if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
        if norm.running_var is not None:
            scale /= norm.running_var.cpu().double() + norm.eps
        if norm.affine:
            scale *= norm.weight.cpu().double().square()
    return scale
