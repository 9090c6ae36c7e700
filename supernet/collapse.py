"""Notices when the training of a supernet goes wrong for good."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_SMOOTHING = 0.9
_RISE = 0.5


class CollapseDetector:
    """Follows loss and accuracy of the members, step by step.

    A signal must hold without a break for a tenth of the training, at least twenty steps, after the warm-up; a value
    that is not finite counts at once.

    Args:
        steps: of the whole training.
        warmup: steps during which only values that are not finite count.
        classes: chance is 1 / classes.
    """

    def __init__(self, steps: int, warmup: int, classes: int) -> None:
        self.patience = max(20, steps // 10)
        self._warmup = warmup
        self._chance = 1 / classes
        self._lost = min(2 * self._chance, self._chance + (1 - self._chance) / 4)
        self._lowest: float | None = None
        self._averages: dict[str, float] = {}
        self._held: dict[str, int] = {}

    @property
    def alarmed(self) -> bool:
        """Whether some signal holds now, if not for long enough."""
        return any(self._held.values())

    def step(self, number: int, *, loss: float, largest: float, smallest: float, gradient: float) -> str | None:
        """Takes in a step, counted from 0; returns the signal of a collapse in words, or None.

        Args:
            loss: of the largest member, in nats.
            largest: share of the batch that the largest member got right.
            smallest: likewise.
            gradient: norm before clipping.
        """
        if not math.isfinite(loss) or not math.isfinite(gradient):
            return f"the loss of the largest member is {loss}, the norm of the gradient {gradient}"
        loss, largest, smallest = self._smooth(loss=loss, largest=largest, smallest=smallest)
        self._lowest = loss if self._lowest is None else min(self._lowest, loss)
        if number < self._warmup:
            return None
        signals = {
            f"the loss of the largest member is {loss:.3g}, its lowest was {self._lowest:.3g}": (
                self._hold("rising", loss > self._lowest + _RISE)
            ),
            f"the largest member is right on {largest:.1%}, chance is {self._chance:.1%}": (
                self._hold("largest lost", largest < self._lost)
            ),
            f"the smallest member is right on {smallest:.1%}, chance is {self._chance:.1%}": (
                self._hold("smallest lost", smallest < (self._chance + self._lost) / 2)
            ),
        }
        collapsed = [f"{words}, for {held} steps" for words, held in signals.items() if held >= self.patience]
        return collapsed[0] if collapsed else None

    def _smooth(self, **values: float) -> list[float]:
        """Exponential moving averages that start at the first value."""
        for name, value in values.items():
            before = self._averages.get(name, value)
            self._averages[name] = _SMOOTHING * before + (1 - _SMOOTHING) * value
        return [self._averages[name] for name in values]

    def _hold(self, name: str, holds: bool) -> int:
        """For how many steps a condition has held."""
        self._held[name] = self._held.get(name, 0) + 1 if holds else 0
        return self._held[name]

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"lowest": self._lowest, "averages": dict(self._averages), "held": dict(self._held)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state_dict` gave."""
        self._lowest = state["lowest"]
        self._averages, self._held = dict(state["averages"]), dict(state["held"])
