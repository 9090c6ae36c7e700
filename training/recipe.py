"""How long, how fast and with what a network is trained."""

import math
from dataclasses import dataclass

from training.augmentation import make_augmentation
from training.precision import Precision
from training.settings import Settings


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of `fit`: SGD with Nesterov momentum, linear warm-up, cosine decay to zero.

    Args:
        epochs: passes over the training split.
        batch_size: pictures a step; the last batch of an epoch may be smaller.
        lr: highest learning rate, reached at the end of the warm-up.
        momentum: of the velocity; 0 is plain SGD.
        weight_decay: L2 coefficient of weights; biases and batch norm have none.
        warmup_epochs: length of the linear warm-up; fractions of an epoch are allowed.
        label_smoothing: share of a label spread over all classes.
        distill_weight: share a of the teacher in the loss; of no effect without a teacher.
        temperature: T of the distillation.
        augment: name of an augmentation.
        precision: fp32, bf16, or auto: bf16 where the device has instructions for it. bf16 takes about half the time.

    Raises:
        InvalidRecipe: a value is of another type, or outside its range.
        UnknownAugmentation: no augmentation is called that.
    """

    epochs: int = 20
    batch_size: int = 128
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: float = 0.5
    label_smoothing: float = 0.1
    distill_weight: float = 0.5
    temperature: float = 2.0
    augment: str = "none"
    precision: str = "fp32"

    def __post_init__(self) -> None:
        super().__post_init__()
        make_augmentation(self.augment)
        self._require("epochs", self.epochs >= 1, "at least 1")
        self._require("batch_size", self.batch_size >= 1, "at least 1")
        self._require("lr", 0 < self.lr < math.inf, "above 0")
        self._require("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "0 or above")
        self._require("warmup_epochs", 0 <= self.warmup_epochs <= self.epochs, f"in [0, epochs = {self.epochs}]")
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)")
        self._require("distill_weight", 0 <= self.distill_weight <= 1, "in [0, 1]")
        self._require("temperature", 0 < self.temperature < math.inf, "above 0")
        self._require("precision", self.precision in set(Precision), f"one of {', '.join(Precision)}")

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The rate of a step, counted from 0: linear up to `lr`, then `lr` / 2 * (1 + cos) down to 0.

        The cosine is that of Loshchilov and Hutter 2017 (1608.03983, eq. 5) without restarts.
        """
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.lr * (step + 1) / warmup
        share = (step - warmup) / (self.epochs * steps_per_epoch - warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * share))
