"""How a supernet is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training import Recipe


@dataclass(frozen=True)
class SupernetRecipe(Recipe):
    """A `Recipe` (SGD, warm-up, cosine) with what only a supernet has.

    `distill_weight` and `temperature` belong to the in-place distillation. Small data sets give a few hundred steps, in
    the first of which the largest member has nothing to teach; hence the labels take part by default. A weight of 1 is
    the rule of the literature, for long trainings.

    Args:
        random_members: sub-networks drawn a step, beside the largest and the smallest (2011.09118 takes two).
        clip: highest norm of the summed gradient.
        ema: share of the training over which weights are averaged: what comes out is their exponential moving average,
            of decay 1 - 1 / (ema * steps). 0 gives the last weights.
        mask_period: steps after which masks are computed anew from the dense weights.
        dense_share: share of the training, at its start, in which random members differ by operators and depth only.
        mild_share: share of the training that follows, in which rates go up to `mild_rate`; then all rates.
        mild_rate: see `mild_share`.
        settle_share: share of the training, at its end, in which the weights of the largest member are moved by its
            gradient and the mean of the students', not by the sum of all. The largest then comes nearer to what it
            would be alone; the others come less near to the best that the shared weights could give them.
        recalibration_batches: for the validation of an epoch's largest and smallest member.

    Raises:
        InvalidRecipe: a value is of another type, or outside its range.
    """

    epochs: int = 20
    batch_size: int = 32
    lr: float = 0.1
    weight_decay: float = 1e-4
    warmup_epochs: float = 1.0
    distill_weight: float = 0.5
    temperature: float = 1.0
    random_members: int = 2
    clip: float = 5.0
    ema: float = 0.02
    mask_period: int = 50
    dense_share: float = 0.25
    mild_share: float = 0.25
    mild_rate: float = 3.0
    settle_share: float = 0.0
    recalibration_batches: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("random_members", self.random_members >= 0, "0 or above")
        self._require("clip", 0 < self.clip < math.inf, "above 0")
        self._require("ema", 0 <= self.ema <= 1, "in [0, 1]")
        self._require("mask_period", self.mask_period >= 1, "at least 1")
        self._require("dense_share", 0 <= self.dense_share <= 1, "in [0, 1]")
        self._require("mild_share", 0 <= self.mild_share <= 1 - self.dense_share, "in [0, 1 - dense_share]")
        self._require("mild_rate", self.mild_rate >= 1, "at least 1")
        self._require("settle_share", 0 <= self.settle_share <= 1, "in [0, 1]")
        self._require("recalibration_batches", self.recalibration_batches >= 1, "at least 1")

    def ema_decay(self, steps: int) -> float:
        """What is kept of the averaged weights in each of so many steps."""
        return 1 - 1 / max(1.0, self.ema * steps)

    def max_rate(self, progress: float) -> float:
        """The highest rate among the members when `progress`, in [0, 1), of the training is done."""
        if progress < self.dense_share:
            return 1.0
        return self.mild_rate if progress < self.dense_share + self.mild_share else math.inf

    def settles(self, progress: float) -> bool:
        """Whether students count by their mean when `progress`, in [0, 1), of the training is done."""
        return progress >= 1 - self.settle_share
