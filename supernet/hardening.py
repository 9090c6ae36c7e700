"""Soft activations become piecewise ones, which cost a fraction on a processor (NPAS, 2012.00596, phase 1)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

HARD: Mapping[type[nn.Module], type[nn.Module]] = MappingProxyType({nn.SiLU: nn.Hardswish, nn.Sigmoid: nn.Hardsigmoid})
_SOFT_FUNCTIONS = frozenset({F.silu, F.sigmoid, torch.sigmoid, Tensor.sigmoid})


@dataclass(frozen=True)
class Hardening:
    """What `harden` did.

    Attributes:
        replaced: class of the new module by path.
        left: how many calls of soft functions remain, which the forward pass makes itself, without a module.
    """

    replaced: dict[str, str]
    left: int


def harden(model: nn.Module, example: Tensor) -> Hardening:
    """Replaces swish and sigmoid modules by hard ones, in place; a short training repairs what that costs."""
    replaced = {}
    hard: dict[nn.Module, nn.Module] = {}  # by the soft one, which may stand in several places
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) in HARD and path:
            parent, _, name = path.rpartition(".")
            hard.setdefault(module, HARD[type(module)]().train(module.training))
            setattr(model.get_submodule(parent), name, hard[module])
            replaced[path] = type(hard[module]).__name__
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _Counter() as counter:
        copy.deepcopy(model).eval()(example)
    return Hardening(replaced, counter.calls)


class _Counter(TorchFunctionMode):
    """Counts calls of soft functions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        self.calls += func in _SOFT_FUNCTIONS
        return func(*args, **(kwargs or {}))
