"""The accuracy of a candidate before any training of its own."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import nn

from search.errors import EvaluationFailed
from supernet import Candidate, fast_evaluate
from supernet.extraction import Shared
from training import Dataset


class SupernetEvaluator:
    """Validation accuracy in percent points with the supernet's weights, batch norm recalibrated.

    Every candidate sees the same pictures, so that differences are due to the candidates. Arguments are those of
    `fast_evaluate`.
    """

    def __init__(
        self,
        supernet: Shared[nn.Module],
        dataset: Dataset,
        *,
        recalibration_batches: int = 16,
        augment: str = "none",
        pictures: int | None = None,
        steps: int = 0,
        seed: int = 0,
    ) -> None:
        self.supernet = supernet
        self.dataset = dataset if pictures is None else replace(dataset, validation=dataset.validation.subset(pictures))
        self.recalibration_batches = recalibration_batches
        self.augment = augment
        self.steps = steps
        self.seed = seed

    def __call__(self, candidate: Candidate) -> float:
        """Raises EvaluationFailed if the loss is not finite."""
        metrics = fast_evaluate(
            self.supernet,
            candidate,
            self.dataset,
            recalibration_batches=self.recalibration_batches,
            augment=self.augment,
            steps=self.steps,
            seed=self.seed,
        )
        if not math.isfinite(metrics.loss):
            raise EvaluationFailed(f"the loss is {metrics.loss}")
        return metrics.accuracy
