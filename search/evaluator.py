"""The accuracy of a candidate before any training of its own."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import nn

from search.errors import EvaluationFailed
from supernet import Candidate, EvaluationRecipe, fast_evaluate
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
        recipe: EvaluationRecipe | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.recipe = recipe or EvaluationRecipe()
        self.supernet = supernet
        pictures = self.recipe.pictures
        self.dataset = dataset if pictures is None else replace(dataset, validation=dataset.validation.subset(pictures))
        self.seed = seed

    def __call__(self, candidate: Candidate) -> float:
        """Raises EvaluationFailed if the loss is not finite."""
        metrics = fast_evaluate(self.supernet, candidate, self.dataset, self.recipe, seed=self.seed)
        if not math.isfinite(metrics.loss):
            raise EvaluationFailed(f"the loss is {metrics.loss}")
        return metrics.accuracy
