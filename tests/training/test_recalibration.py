"""Recalibration gives exact batch statistics and touches nothing else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from training import Dataset, batches, evaluate, fit, recalibrate_as_trained, recalibrate_batch_norm
from training.errors import RecalibrationFailed
from training.recipe import Recipe

MakeCnn = Callable[..., nn.Sequential]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def images(dataset: Dataset, batch_size: int = 32) -> list[Tensor]:
    return [pictures for pictures, _ in batches(dataset.train, batch_size)]


def by_hand(layers: nn.Sequential, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean of the batch means and of the unbiased batch variances of what comes out of some layers."""
    with torch.no_grad():
        outputs = [layers(batch) for batch in inputs]
    means = torch.stack([y.mean(dim=(0, 2, 3)) for y in outputs])
    variances = torch.stack([y.transpose(0, 1).flatten(1).var(dim=1, unbiased=True) for y in outputs])
    return means.mean(0), variances.mean(0)


def test_statistics_are_those_computed_by_hand(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    model, twin = make_cnn(), make_cnn().train()
    model[1].running_mean.fill_(3)  # old statistics must not shine through
    inputs = images(few_digits)
    recalibrate_batch_norm(model, inputs)
    for layer in (1, 4):  # the second sees what the first, with batch statistics, hands on
        mean, variance = by_hand(twin[:layer], inputs)
        torch.testing.assert_close(model[layer].running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model[layer].running_var, variance, rtol=1e-4, atol=1e-5)
        assert model[layer].num_batches_tracked == len(inputs)


def test_nothing_but_statistics_changes(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    model = make_cnn(dropout=0.5).train()
    model[4].eval()
    model[1].momentum = 0.03
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    recalibrate_batch_norm(model, iter(images(few_digits)))
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(before[name], tensor) == (not name.endswith(STATISTICS)), name
    assert [module.training for module in model] == [index != 4 for index in range(len(model))]
    assert (model[1].momentum, model[4].momentum) == (0.03, 0.1)
    assert all(weight.grad is None for weight in model.parameters())


def test_it_can_be_repeated(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    model = make_cnn()
    recalibrate_batch_norm(model, images(few_digits))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recalibrate_batch_norm(model, images(few_digits))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_it_brings_back_the_accuracy_that_wrong_statistics_took(digits: Dataset, make_cnn: MakeCnn) -> None:
    model = make_cnn()
    fit(model, digits, Recipe(epochs=3, batch_size=32))
    trained = evaluate(model, digits.validation).accuracy
    model[1].running_mean.add_(4)
    model[4].running_var.mul_(9)
    assert evaluate(model, digits.validation).accuracy < trained - 20
    recalibrate_batch_norm(model, images(digits, 64))
    assert evaluate(model, digits.validation).accuracy > trained - 3


def test_failure_leaves_the_old_statistics(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    model = make_cnn()
    recalibrate_batch_norm(model, images(few_digits))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bad = images(few_digits)
    bad[1] = bad[1] * torch.nan
    for inputs, said in (([], "no batch"), (bad, "batch norm '1' are not finite")):
        with pytest.raises(RecalibrationFailed, match=said):
            recalibrate_batch_norm(model, inputs)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        assert model[1].momentum == 0.1


def test_a_model_without_batch_norm_reads_nothing() -> None:
    inputs = iter([torch.zeros(1, 3)])
    recalibrate_batch_norm(nn.Linear(3, 2), inputs)
    assert next(inputs) is not None


def test_batch_norm_without_statistics_is_left_alone() -> None:
    norm, inputs = nn.BatchNorm1d(3, track_running_stats=False), iter([torch.ones(2, 3)])
    recalibrate_batch_norm(norm, inputs)
    assert norm.running_mean is None
    assert next(inputs) is not None


def test_as_trained_means_the_pictures_of_the_training(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    found, expected, clean = make_cnn(), make_cnn(), make_cnn()
    recipe = Recipe(epochs=1, batch_size=32, augment="shift")
    recalibrate_as_trained(found, few_digits, recipe, seed=3)
    shifted = batches(few_digits.train, 32, generator=torch.Generator().manual_seed(3), augment="shift")
    recalibrate_batch_norm(expected, [pictures for pictures, _ in shifted])
    recalibrate_batch_norm(clean, images(few_digits))
    assert torch.equal(found[1].running_mean, expected[1].running_mean)
    assert not torch.allclose(found[1].running_mean, clean[1].running_mean, atol=1e-4)
