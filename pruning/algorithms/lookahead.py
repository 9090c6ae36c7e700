"""Lookahead: a weight counts as much as it distorts what its neighbouring layers make of it (2002.04809)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from pruning.algorithm import ALGORITHMS, Algorithm
from pruning.assignment import Assignment
from pruning.dependency.record import Record
from pruning.dependency.tracing import trace
from pruning.target import Prunable, Target


@ALGORITHMS.add
class Lookahead(Algorithm):
    """Keeps the groups of largest sum over their weights of

        W_i[j, k]^2 * ||W_{i-1}[k]||^2 * ||W_{i+1}[:, j]||^2   (equation 5),

    neighbours summed over kernel positions too: the squared distortion of the three layers' linear product when the
    weight goes. Batch norms multiply by (gamma / std)^2, depthwise convolutions by their channel's energy, parallel
    paths add, and a missing neighbour is 1, as is one that is neither Conv2d nor Linear.
    """

    name: ClassVar[str] = "lookahead"

    def __init__(self, assignment: Assignment) -> None:
        super().__init__(assignment)
        self._record = trace(assignment.model, assignment.example_inputs)
        self._before: dict[str, Tensor] = {}
        self._behind: dict[str, Tensor] = {}

    def finish(self) -> None:
        if not self.finished:
            self._before, self._behind = _neighbours(self.assignment.model, self._record)
        super().finish()

    def rank(self, target: Target, weight: Tensor) -> Tensor:
        if target.name not in self._before:
            return weight
        rest = [1] * (weight.dim() - 2)
        before = self._before[target.name].to(weight.device).reshape(target.groups, 1, -1, *rest)
        behind = self._behind[target.name].to(weight.device).reshape(target.groups, -1, 1, *rest)
        return weight.double() * (before.sqrt() * behind.sqrt()).flatten(0, 1)


@torch.no_grad()
def _neighbours(model: nn.Module, record: Record) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For every layer ||W_{i-1}[k]||^2 of its input channels k, and ||W_{i+1}[:, j]||^2 of its output channels j."""
    norms = _norms(model, record)
    layers = {layer.name: layer for layer in record.layers if isinstance(model.get_submodule(layer.name), Prunable)}
    made, read, between = (torch.full((record.size,), value, dtype=torch.float64) for value in (0, 0, 1))
    makers, readers = record.marked([]), record.marked([])
    scales = {}
    for name, layer in layers.items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        energy = weight.cpu().double().square().reshape(*layer.reads.shape, -1).sum(3)
        inputs, outputs = record.sets(layer.inputs.flatten()), record.sets(layer.outputs.flatten())
        scales[name] = _scale(norms.get(int(layer.outputs[0, 0])), layer.outputs.numel())
        out = energy.sum(2).flatten() * scales[name]
        if layer.depthwise:
            between[outputs] *= torch.zeros_like(between).index_add_(0, outputs, out)[outputs]
        else:
            made.index_add_(0, outputs, out)
            read.index_add_(0, inputs, energy.sum(1).flatten())
            makers[outputs], readers[inputs] = True, True
    made, read = torch.where(makers, made, 1.0) * between, torch.where(readers, read, 1.0) * between
    before = {name: made[record.sets(layer.inputs.flatten())] for name, layer in layers.items()}
    behind = {name: scales[name] * read[record.sets(layer.outputs.flatten())] for name, layer in layers.items()}
    return before, behind


def _norms(model: nn.Module, record: Record) -> dict[int, nn.Module]:
    """The batch norm behind a layer, by the id of the layer's first output."""
    norms = {}
    for use in record.uses:
        name, _, attribute = use.tensor.rpartition(".")
        if attribute == "running_var" and use.axes[0] is not None:
            norms[int(use.axes[0].flatten()[0])] = model.get_submodule(name)
    return norms


def _scale(norm: nn.Module | None, channels: int) -> Tensor:
    """(gamma / std)^2 of the batch norm behind a layer, ones without."""
    scale = torch.ones(channels, dtype=torch.float64)
    if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
        if norm.running_var is not None:
            scale /= norm.running_var.cpu().double() + norm.eps
        if norm.affine:
            scale *= norm.weight.cpu().double().square()
    return scale
