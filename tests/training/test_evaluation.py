"""Accuracy and loss are those of the definition, and the model is left alone."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training import Dataset, Split, evaluate


def test_metrics_are_the_definition_whatever_the_batch_size(
    few_digits: Dataset, make_cnn: Callable[..., nn.Sequential]
) -> None:
    model = make_cnn().eval()
    split = few_digits.train
    with torch.no_grad():
        logits = model(split.images)
    accuracy = 100 * (logits.argmax(1) == split.labels).double().mean().item()
    for batch_size in (1, 7, 1000):
        metrics = evaluate(model, split, batch_size)
        assert metrics.accuracy == pytest.approx(accuracy, abs=1e-9)
        assert metrics.loss == pytest.approx(F.cross_entropy(logits, split.labels).item(), rel=1e-5)


def test_accuracy_is_in_percent_points() -> None:
    split = Split(torch.eye(4).view(4, 4, 1, 1), torch.tensor([0, 1, 2, 0]))
    assert evaluate(nn.Flatten(), split).accuracy == 75.0


def test_the_model_is_left_alone(few_digits: Dataset, make_cnn: Callable[..., nn.Sequential]) -> None:
    model = make_cnn(dropout=0.5).train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    assert evaluate(model, few_digits.test) == evaluate(model, few_digits.test)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model] == [index != 1 for index in range(len(model))]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
