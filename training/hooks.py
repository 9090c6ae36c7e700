"""What may take part in training without the loop knowing what it is."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor


class Hooks(Protocol):
    """The places in `fit` where something else may act; every pruning algorithm has them."""

    def penalty(self) -> Tensor:
        """A scalar added to the loss of every step."""

    def after_step(self) -> None:
        """Called after every optimiser step, the place to hold masks."""

    def after_epoch(self) -> Mapping[str, float]:
        """Called after every epoch; what it returns becomes columns of the history."""

    def state_dict(self) -> Mapping[str, Any]:
        """Everything needed to go on from here: tensors, numbers, texts, lists and mappings of them."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""


class NoHooks:
    """Takes part and does nothing."""

    def penalty(self) -> Tensor:
        return torch.zeros(())

    def after_step(self) -> None: ...

    def after_epoch(self) -> Mapping[str, float]:
        return {}

    def state_dict(self) -> Mapping[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
