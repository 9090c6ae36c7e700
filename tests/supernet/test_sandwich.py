import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from supernet import (
    Candidate,
    EvaluationRecipe,
    SearchSpace,
    SuperNet,
    SupernetCollapsed,
    SupernetRecipe,
    fast_evaluate,
    train_supernet,
)
from supernet.collapse import CollapseDetector
from supernet.members import Members
from supernet.selection import Selector
from training import Dataset, Metrics, Split, distillation_loss, load_dataset
from training.errors import CheckpointCorrupt, CheckpointMismatch

RECIPE = SupernetRecipe(epochs=3, dense_share=0.4, mild_share=0.6, recalibration_batches=4)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", "unused")


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Dataset:
    """A part of digits, for what is asserted to the bit."""
    return replace(digits, train=Split(digits.train.images[:160], digits.train.labels[:160]))


@pytest.fixture(scope="module")
def trained(small: SearchSpace, digits: Dataset) -> tuple[SuperNet, pd.DataFrame]:
    supernet = SuperNet(small)
    return supernet, train_supernet(supernet, digits, RECIPE)


def test_training_learns(trained: tuple[SuperNet, pd.DataFrame]) -> None:
    _, history = trained
    assert list(history["epoch"]) == [1, 2, 3]
    assert history["loss_largest"].iloc[-1] < 0.6 * history["loss_largest"].iloc[0]
    assert history["accuracy_largest"].iloc[-1] > 85
    assert history["accuracy_smallest"].iloc[-1] > 20
    assert history["accuracy_random"].iloc[-1] > 25
    assert history["accuracy_pruned"].iloc[-1] > 15


def test_members_that_are_watched_stay_the_same_and_are_pruned_when_others_are(
    small: SearchSpace, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[Candidate] = []

    def note(supernet: SuperNet, member: Candidate, *_: object) -> Metrics:
        judged.append(member)
        return Metrics(50.0, 1.0)

    monkeypatch.setattr("supernet.sandwich.fast_evaluate", note)
    train_supernet(SuperNet(small), few, replace(RECIPE, epochs=4, warmup_epochs=0, dense_share=0.5, mild_share=0.5))
    largest, smallest, random, pruned = (judged[i::4] for i in range(4))
    assert set(largest) == {small.largest()}
    assert set(smallest) == {small.smallest()}
    assert len(set(random)) == 1
    assert {choice.sparsity.rate for choice in random[0].choices} == {1}
    assert pruned[:2] == random[:2]
    assert pruned[2] == pruned[3]
    assert 1 < max(choice.sparsity.rate for choice in pruned[3].choices) <= RECIPE.mild_rate


def test_training_learns_in_bf16(small: SearchSpace, digits: Dataset) -> None:
    supernet = SuperNet(small)
    history = train_supernet(supernet, digits, replace(RECIPE, precision="bf16"))
    assert history["accuracy_largest"].iloc[-1] > 85
    assert {tensor.dtype for tensor in supernet.state_dict().values()} <= {torch.float32, torch.int64}


def test_fast_evaluation_is_repeatable_and_changes_nothing(
    trained: tuple[SuperNet, pd.DataFrame], digits: Dataset, small: SearchSpace
) -> None:
    supernet, history = trained
    before = copy.deepcopy(supernet.state_dict())
    random = torch.random.get_rng_state()
    recipe = EvaluationRecipe(recalibration_batches=4)
    metrics, again = (fast_evaluate(supernet, small.largest(), digits, recipe) for _ in range(2))
    assert metrics == again
    assert metrics.accuracy == history["accuracy_largest"].iloc[-1]
    assert fast_evaluate(supernet, small.largest(), digits, recipe, seed=1) != metrics
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


def test_resuming_gives_the_same_bits(small: SearchSpace, few: Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=4, mask_period=2)
    whole = SuperNet(small)
    expected = train_supernet(whole, few, recipe, checkpoint=tmp_path / "whole.safetensors")

    class Stopped(Exception):
        pass

    def stop(row: object) -> None:
        assert isinstance(row, dict)
        if row["epoch"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train_supernet(SuperNet(small), few, recipe, on_epoch=stop, checkpoint=tmp_path / "half.safetensors")
    torch.rand(3)
    resumed = SuperNet(small, seed=5)
    history = train_supernet(resumed, few, recipe, checkpoint=tmp_path / "half.safetensors")
    pd.testing.assert_frame_equal(history, expected, check_exact=True)
    assert all(
        torch.equal(one, other)
        for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    finished = train_supernet(SuperNet(small), few, recipe, checkpoint=tmp_path / "half.safetensors")
    pd.testing.assert_frame_equal(finished, expected, check_exact=True)


def test_a_checkpoint_of_another_training_is_refused(small: SearchSpace, few: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    recipe = replace(RECIPE, epochs=1)
    train_supernet(SuperNet(small), few, recipe, checkpoint=path)
    supernet = SuperNet(small)
    before = copy.deepcopy(supernet.state_dict())
    with pytest.raises(CheckpointMismatch, match="seed"):
        train_supernet(supernet, few, recipe, seed=1, checkpoint=path)
    with pytest.raises(CheckpointMismatch, match="recipe"):
        train_supernet(supernet, few, replace(recipe, lr=0.01), checkpoint=path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointCorrupt):
        train_supernet(supernet, few, recipe, checkpoint=path)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


def test_an_absurd_learning_rate_is_noticed(small: SearchSpace, few: Dataset, tmp_path: Path) -> None:
    supernet = SuperNet(small)
    before = copy.deepcopy(supernet.state_dict())
    path = tmp_path / "supernet.safetensors"
    recipe = replace(RECIPE, epochs=20, lr=1e4, clip=1e4, warmup_epochs=0)
    with pytest.raises(SupernetCollapsed, match=r"Halve the learning rate"):
        train_supernet(supernet, few, recipe, checkpoint=path)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


def test_masks_are_computed_anew_after_so_many_steps(
    small: SearchSpace, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[Selector] = []
    monkeypatch.setattr(Selector, "forget", lambda selector: forgotten.append(selector))
    train_supernet(SuperNet(small), few, replace(RECIPE, epochs=1, warmup_epochs=0, mask_period=2))
    assert len(forgotten) == 3  # of five steps


def test_the_summed_gradient_is_clipped(small: SearchSpace, few: Dataset) -> None:
    supernet = SuperNet(small)
    before = {name: weight.detach().clone() for name, weight in supernet.named_parameters()}
    recipe = replace(RECIPE, epochs=1, warmup_epochs=0, weight_decay=0.0, clip=1e-4)
    train_supernet(supernet, few, recipe)
    moved = [float((weight - before[name]).norm()) for name, weight in supernet.named_parameters()]
    assert sum(moved) > 0
    assert max(moved) <= 5 * recipe.lr * recipe.clip / (1 - recipe.momentum)


@pytest.mark.parametrize("settle_share", [0.0, 1.0])
def test_gradients_of_the_members_add_up(
    small: SearchSpace, few: Dataset, monkeypatch: pytest.MonkeyPatch, settle_share: float
) -> None:
    """By the formula: gradients of each member alone, in one step on all pictures."""
    recipe = replace(
        RECIPE,
        epochs=1,
        batch_size=len(few.train),
        warmup_epochs=0,
        clip=1e6,
        label_smoothing=0.0,
        settle_share=settle_share,
    )
    rng = np.random.default_rng(0)
    students = [small.smallest(), small.sample(rng), small.sample(rng)]
    drawn = iter(students[1:])
    monkeypatch.setattr(Members, "sample", lambda *_: next(drawn, students[1]))
    supernet, alone = SuperNet(small), SuperNet(small)
    found: dict[str, Tensor] = {}

    def note(optimizer: Optimizer, *_: object) -> None:
        found.update(
            {name: weight.grad.clone() for name, weight in supernet.named_parameters() if weight.grad is not None}
        )

    handle = register_optimizer_step_pre_hook(note)
    try:
        train_supernet(supernet, few, recipe)
    finally:
        handle.remove()

    images, labels = few.train.images, few.train.labels
    logits = alone.train()(images, small.largest())
    weights = dict(alone.named_parameters())

    def gradients(loss: Tensor) -> dict[str, Tensor]:
        of_weights = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        return {name: grad for name, grad in zip(weights, of_weights, strict=True) if grad is not None}

    largest = gradients(F.cross_entropy(logits, labels))
    expected = dict(largest)
    for student in students:
        loss = distillation_loss(
            alone(images, student),
            logits.detach(),
            labels,
            weight=recipe.distill_weight,
            temperature=recipe.temperature,
            label_smoothing=recipe.label_smoothing,
        )
        for name, gradient in gradients(loss).items():
            share = 1 / len(students) if settle_share and name in largest else 1.0
            expected[name] = expected.get(name, 0.0) + share * gradient
    assert largest.keys() < expected.keys() == found.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("ema", [0.0, 0.4])
def test_what_comes_out_is_the_moving_average_of_the_weights(small: SearchSpace, few: Dataset, ema: float) -> None:
    """Its formula, from the weights after each of the five steps; a reach of nothing gives the last ones."""
    supernet, after_steps = SuperNet(small), list[dict[str, Tensor]]()

    def note(optimizer: Optimizer, *_: object) -> None:
        after_steps.append({name: weight.detach().clone() for name, weight in supernet.named_parameters()})

    handle = register_optimizer_step_post_hook(note)
    try:
        history = train_supernet(supernet, few, replace(RECIPE, epochs=1, warmup_epochs=0, ema=ema))
    finally:
        handle.remove()
    assert len(after_steps) == 5
    decay = 1 - 1 / max(1, 5 * ema)
    average = after_steps[0]
    for weights in after_steps[1:]:
        average = {name: decay * average[name] + (1 - decay) * weight for name, weight in weights.items()}
    for name, weight in supernet.named_parameters():
        torch.testing.assert_close(weight, average[name], rtol=1e-5, atol=1e-6)
    recipe = EvaluationRecipe(RECIPE.recalibration_batches, augment=RECIPE.augment)
    assert history["accuracy_largest"].iloc[-1] == fast_evaluate(supernet, small.largest(), few, recipe).accuracy


def test_an_epoch_in_which_something_seems_wrong_is_not_kept(
    small: SearchSpace, few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, recipe = tmp_path / "supernet.safetensors", replace(RECIPE, epochs=1, warmup_epochs=0)
    monkeypatch.setattr(CollapseDetector, "alarmed", True)
    train_supernet(SuperNet(small), few, recipe, checkpoint=path)
    assert not path.exists()
    monkeypatch.setattr(CollapseDetector, "alarmed", False)
    train_supernet(SuperNet(small), few, recipe, checkpoint=path)
    assert path.exists()


def test_an_operator_that_no_gradient_reaches_is_named(small: SearchSpace, few: Dataset) -> None:
    supernet = SuperNet(small)
    block = supernet.get_submodule("sites.0.conv3x3.bn1")
    assert isinstance(block, nn.BatchNorm2d)
    nn.init.zeros_(block.weight)
    nn.init.constant_(block.bias, -1)
    with pytest.raises(SupernetCollapsed, match=r"no gradient reached sites\.0\.conv3x3"):
        train_supernet(supernet, few, replace(RECIPE, epochs=1))
