"""How good a candidate is, as far as the shared weights tell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from supernet.candidate import Candidate
from supernet.extraction import Shared, extract
from supernet.network import Network
from training import Dataset, Metrics, Split, batches, evaluate, recalibrate_batch_norm
from training.augmentation import make_augmentation
from training.memory import give_back_memory
from training.modules import channels_last, preserved_modes
from training.settings import Settings

MOMENTUM = 0.9
EVALUATED = 32
"""Pictures that are evaluated at a time: what an expanded layer gives for them still lies in the cache."""


@dataclass(frozen=True)
class EvaluationRecipe(Settings):
    """How a candidate is judged with the shared weights.

    Args:
        recalibration_batches: how many batches of training pictures measure the statistics.
        batch_size: of these batches, and of the steps.
        augment: of the pictures, as the supernet was trained: statistics of clean pictures cost up to 3 points.
        pictures: of the validation split that are looked at, always the same ones; by default all.
        steps: of SGD on the labels, from the shared weights, under the candidate's masks.
        lr: of the first step; the rate goes down to 0 along a cosine.

    Raises:
        InvalidRecipe: a value is of another type, or outside its range.
        UnknownAugmentation: no augmentation is called that.
    """

    recalibration_batches: int = 16
    batch_size: int = 64
    augment: str = "none"
    pictures: int | None = None
    steps: int = 0
    lr: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        make_augmentation(self.augment)
        self._require("recalibration_batches", self.recalibration_batches >= 1, "at least 1")
        self._require("batch_size", self.batch_size >= 1, "at least 1")
        self._require("pictures", self.pictures is None or self.pictures >= 1, "at least 1, or null for all")
        self._require("steps", self.steps >= 0, "0 or above")
        self._require("lr", 0 < self.lr < math.inf, "above 0")


def fast_evaluate(
    supernet: Shared[nn.Module],
    candidate: Candidate,
    dataset: Dataset,
    recipe: EvaluationRecipe | None = None,
    *,
    seed: int = 0,
) -> Metrics:
    """Metrics on the validation split: extract, train for a few steps if asked to, recalibrate batch norm, evaluate.

    Only the candidate's own weights are copied. The supernet and torch's global random state are left as they were;
    equal arguments give equal metrics.

    Args:
        recipe: by default one without any step of training.
        seed: decides which training pictures are taken, and how they are augmented.

    Raises:
        InvalidCandidate: the candidate is not of the supernet's space.
    """
    recipe = recipe or EvaluationRecipe()
    network = extract(supernet, candidate)
    passes = _passes(dataset.train, recipe.batch_size, seed, recipe.augment)
    validation = dataset.validation if recipe.pictures is None else dataset.validation.subset(recipe.pictures)
    # A network of the user's may flatten what it computes in a way that needs the order in memory that it is used to.
    with channels_last(network) if isinstance(network, Network) else nullcontext():
        if recipe.steps:
            with torch.random.fork_rng(devices=[]), preserved_modes(network):
                torch.manual_seed(seed)
                _train(network, islice(passes, recipe.steps), recipe.steps, recipe.lr)
        recalibrate_batch_norm(network, (images for images, _ in islice(passes, recipe.recalibration_batches)))
        if isinstance(network, Network):
            network.fold()
        metrics = evaluate(network, validation, EVALUATED)
    give_back_memory()
    return metrics


def _train(network: nn.Module, passes: Iterator[tuple[Tensor, Tensor]], steps: int, lr: float) -> None:
    """SGD with momentum; weights that are zero in the beginning stay zero."""
    held = [(weight, weight.detach() != 0) for weight in network.parameters() if weight.ndim > 1]
    held = [(weight, mask) for weight, mask in held if not bool(mask.all())]
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=MOMENTUM, nesterov=True)
    network.train()
    for step, (images, labels) in enumerate(passes):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for weight, mask in held:
                weight.mul_(mask)


def _passes(split: Split, batch_size: int, seed: int, augment: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches without an end, pass after pass."""
    generator = Generator().manual_seed(seed)
    while True:
        yield from batches(split, batch_size, generator=generator, augment=augment)
