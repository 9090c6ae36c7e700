from __future__ import annotations

import pytest
import torch

from search import SupernetEvaluator
from search.errors import EvaluationFailed
from supernet import EvaluationRecipe, SearchSpace, SuperNet, fast_evaluate
from training import Dataset, load_dataset


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", "data", validation=0.25)


def test_gives_the_validation_accuracy_in_percent_points(toy: SearchSpace, digits: Dataset) -> None:
    supernet = SuperNet(toy, seed=0)
    recipe = EvaluationRecipe(recalibration_batches=2)
    evaluator = SupernetEvaluator(supernet, digits, recipe, seed=4)
    for candidate in (toy.largest(), toy.smallest()):
        metrics = fast_evaluate(supernet, candidate, digits, recipe, seed=4)
        assert evaluator(candidate) == evaluator(candidate) == metrics.accuracy
        right = metrics.accuracy / 100 * len(digits.validation.labels)
        assert right == pytest.approx(round(right), abs=1e-3)


def test_loss_that_is_not_finite_is_a_failure(toy: SearchSpace, digits: Dataset) -> None:
    supernet = SuperNet(toy, seed=0)
    with torch.no_grad():
        for parameter in supernet.parameters():
            if parameter.ndim == 2:
                parameter.fill_(3e38)
    with pytest.raises(EvaluationFailed, match="loss"):
        SupernetEvaluator(supernet, digits, EvaluationRecipe(recalibration_batches=1))(toy.largest())
