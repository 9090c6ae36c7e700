"""Which convolutions and linear layers a network executes, in which order, and on what."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class LayerCall:
    """A layer, how often it is called, and whether another module holds its weight too.

    `shape` is that of the input of its first call, without the batch.
    """

    name: str
    layer: nn.Conv2d | nn.Linear
    shape: tuple[int, ...]
    count: int
    tied: bool

    @property
    def label(self) -> str:
        """Equal for layers of equal shape and place."""
        weight = "x".join(map(str, self.layer.weight.shape))
        kind = f"conv {weight} /{self.layer.stride[0]}" if isinstance(self.layer, nn.Conv2d) else f"linear {weight}"
        return f"{kind} on {'x'.join(map(str, self.shape))}"


def layer_calls(model: nn.Module, example: Tensor) -> tuple[LayerCall, ...]:
    """The layers in execution order; the model and torch's global random state are left as they were."""
    private = copy.deepcopy(model).eval()
    counts: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Sequence[Tensor]) -> None:
            counts[name] = counts.get(name, 0) + 1
            shapes.setdefault(name, tuple(inputs[0].shape[1:]))

        return hook

    for name, module in private.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(watch(name))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        private(example)
    tied = _shared(model)
    found = []
    for name, count in counts.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        found.append(LayerCall(name, layer, shapes[name], count, id(layer.weight) in tied))
    return tuple(found)


def _shared(model: nn.Module) -> set[int]:
    """Ids of the parameters that several modules hold."""
    seen: set[int] = set()
    shared: set[int] = set()
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            (shared if id(weight) in seen else seen).add(id(weight))
    return shared
