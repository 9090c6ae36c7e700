"""How a network of the user's own is prepared for the search."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.settings import Settings


@dataclass(frozen=True)
class OwnRecipe(Settings):
    """Settings of the stage that stands in the place of a supernet's training.

    Args:
        reconstruction_steps: of the training of replacement operators; 0 leaves them as they start.
        reconstruction_lr: of its Adam.
        batch_size: of the reconstruction.
        hardening_epochs: of training after soft activations were replaced, if any were.
        hardening_lr: its highest learning rate.

    Raises:
        InvalidRecipe: a value is of another type, or outside its range.
    """

    reconstruction_steps: int = 200
    reconstruction_lr: float = 1e-3
    batch_size: int = 64
    hardening_epochs: int = 1
    hardening_lr: float = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("reconstruction_steps", "hardening_epochs"):
            self._require(field, getattr(self, field) >= 0, "0 or above")
        self._require("batch_size", self.batch_size >= 1, "at least 1")
        for field in ("reconstruction_lr", "hardening_lr"):
            self._require(field, 0 < getattr(self, field) < math.inf, "above 0")
