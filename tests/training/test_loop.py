"""Training learns, stops on nonsense, and resumes to the same bits."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning import Algorithm, Sparsity, make_algorithm
from training import Dataset, Recipe, Split, evaluate, fit, load_checkpoint, save_checkpoint
from training.errors import CheckpointCorrupt, CheckpointMismatch, NothingToTrain, TrainingDiverged

MakeCnn = Callable[..., nn.Sequential]
QUICK = Recipe(epochs=4, batch_size=32, lr=0.05, augment="shift")


class Pull:
    """An ADMM in miniature: pulls a weight to a target that moves every second epoch, and holds a mask."""

    def __init__(self, weight: nn.Parameter) -> None:
        self.weight = weight
        self.target = torch.zeros_like(weight)
        self.dual = torch.zeros_like(weight)
        self.mask = torch.ones_like(weight, dtype=torch.bool)
        self.mask[::2] = False
        self.epochs = 0
        self.steps = 0

    def penalty(self) -> Tensor:
        return 0.05 * (self.weight - self.target + self.dual).square().sum()

    def after_step(self) -> None:
        self.steps += 1
        with torch.no_grad():
            self.weight *= self.mask

    def after_epoch(self) -> Mapping[str, float]:
        self.epochs += 1
        if self.epochs % 2 == 0:
            current = self.weight.detach()
            self.target = (current + self.dual).clamp(min=0)
            self.dual = self.dual + current - self.target
        return {"residual": (self.weight.detach() - self.target).norm().item()}

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "steps": self.steps, "weights": {"target": self.target, "dual": self.dual}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epochs, self.steps = state["epochs"], state["steps"]
        self.target = state["weights"]["target"].to(self.weight.device)
        self.dual = state["weights"]["dual"].to(self.weight.device)


class Killed(Exception):
    pass


def kill_after(epoch: int) -> Callable[[Mapping[str, float]], None]:
    def on_epoch(row: Mapping[str, float]) -> None:
        if row["epoch"] == epoch:
            raise Killed

    return on_epoch


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_small_network_learns_the_digits(digits: Dataset, make_cnn: MakeCnn) -> None:
    model = make_cnn()
    assert evaluate(model, digits.test).accuracy < 30
    history = fit(model, digits, Recipe(epochs=5, batch_size=32, lr=0.05))
    assert evaluate(model, digits.test).accuracy > 90
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["validation_accuracy"].iloc[-1] == evaluate(model, digits.validation).accuracy
    assert list(history["epoch"]) == [1, 2, 3, 4, 5]


def test_the_first_step_is_the_formula(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    """One step over all pictures: w - lr (1 + momentum) (g + wd w), the Nesterov step from rest."""
    recipe = Recipe(epochs=1, batch_size=1000, lr=0.03, momentum=0.8, weight_decay=0.1, warmup_epochs=0)
    model, twin = make_cnn(), make_cnn()
    split = few_digits.train
    twin.train()
    F.cross_entropy(twin(split.images), split.labels, label_smoothing=recipe.label_smoothing).backward()
    fit(model, few_digits, recipe)
    for weight, old in zip(model.parameters(), twin.parameters(), strict=True):
        assert old.grad is not None
        decayed = old.grad + (0.1 * old if old.ndim > 1 else 0)
        torch.testing.assert_close(weight, old - 0.03 * 1.8 * decayed, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stop", [1, 3])
def test_resuming_gives_the_same_bits(few_digits: Dataset, make_cnn: MakeCnn, tmp_path: Path, stop: int) -> None:
    path = tmp_path / "state.safetensors"
    straight, broken, resumed = (make_cnn(dropout=0.3) for _ in range(3))
    teacher = make_cnn(seed=5)
    hooks = Pull(straight[3].weight)
    expected = fit(straight, few_digits, QUICK, algorithm=hooks, teacher=teacher, seed=7)
    with pytest.raises(Killed):
        fit(
            broken,
            few_digits,
            QUICK,
            algorithm=Pull(broken[3].weight),
            teacher=teacher,
            seed=7,
            on_epoch=kill_after(stop),
            checkpoint=path,
        )
    torch.rand(stop)  # what others draw meanwhile must not matter
    seen: list[float] = []
    again = Pull(resumed[3].weight)
    history = fit(
        resumed,
        few_digits,
        QUICK,
        algorithm=again,
        teacher=teacher,
        seed=7,
        on_epoch=lambda row: seen.append(row["epoch"]),
        checkpoint=path,
    )
    assert same(straight, resumed)
    assert not same(straight, broken)
    assert (again.epochs, again.steps) == (hooks.epochs, hooks.steps)
    assert torch.equal(again.target, hooks.target)
    assert torch.equal(again.dual, hooks.dual)
    assert seen == list(range(stop + 1, 5))
    pd.testing.assert_frame_equal(history, expected, check_exact=True)


@pytest.mark.parametrize("finished", [False, True])
def test_resuming_under_a_pruning_algorithm_gives_the_same_bits(
    few_digits: Dataset, make_cnn: MakeCnn, tmp_path: Path, finished: bool
) -> None:
    """While ADMM moves its targets, and later while its masks hold."""
    path = tmp_path / "state.safetensors"
    plan = {"3": Sparsity("block_punched(16x1)", 3.0)}

    def prepared() -> tuple[nn.Module, Algorithm]:
        model = make_cnn()
        admm = make_algorithm("admm", model, plan, (few_digits.train.images[:2],), rho=[0.01, 0.1], epochs=2, period=1)
        if finished:
            admm.finish()
        return model, admm

    (straight, one), (broken, two), (resumed, three) = prepared(), prepared(), prepared()
    expected = fit(straight, few_digits, QUICK, algorithm=one)
    with pytest.raises(Killed):
        fit(broken, few_digits, QUICK, algorithm=two, on_epoch=kill_after(3), checkpoint=path)
    history = fit(resumed, few_digits, QUICK, algorithm=three, checkpoint=path)
    pd.testing.assert_frame_equal(history, expected, check_exact=True)
    for model, algorithm in ((straight, one), (resumed, three)):
        algorithm.finish()
        kept = model.get_submodule("3").weight != 0
        assert kept.sum() == algorithm.masks["3"].sum()
    assert same(straight, resumed)


def test_a_finished_training_is_only_read(few_digits: Dataset, make_cnn: MakeCnn, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    model, other = make_cnn(), make_cnn()
    first = fit(model, few_digits, QUICK, checkpoint=path)
    written = path.read_bytes()
    second = fit(other, few_digits, QUICK, checkpoint=path)
    assert same(model, other)
    assert path.read_bytes() == written
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_momentum_is_part_of_the_checkpoint(few_digits: Dataset, make_cnn: MakeCnn, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(Killed):
        fit(make_cnn(), few_digits, QUICK, on_epoch=kill_after(2), checkpoint=path)
    state = load_checkpoint(path)
    assert set(state["momentum"]) == {name for name, _ in make_cnn().named_parameters()}
    straight, without = make_cnn(), make_cnn()
    fit(straight, few_digits, QUICK)
    save_checkpoint(path, {**state, "momentum": {}})
    fit(without, few_digits, QUICK, checkpoint=path)
    assert not same(straight, without)


def test_seed_decides_everything_and_global_randomness_is_left_alone(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    recipe = replace(QUICK, epochs=1)
    one, two, three = (make_cnn(dropout=0.3) for _ in range(3))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    fit(one, few_digits, recipe, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    fit(two, few_digits, recipe, seed=3)
    fit(three, few_digits, recipe, seed=4)
    assert same(one, two)
    assert not same(one, three)


def test_hooks_are_called_and_obeyed(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    free, pulled = make_cnn(), make_cnn()
    hooks = Pull(pulled[3].weight)
    fit(free, few_digits, QUICK)
    history = fit(pulled, few_digits, QUICK, algorithm=hooks)
    assert hooks.epochs == 4
    assert hooks.steps == 4 * -(-len(few_digits.train) // 32)
    assert history["residual"].notna().all()
    assert (history["penalty"] > 0).all()
    assert (pulled[3].weight[::2] == 0).all()  # in spite of momentum and weight decay
    assert (pulled[3].weight[1::2] != 0).any()
    assert pulled[3].weight[1::2].norm() < free[3].weight[1::2].norm()


def test_the_teacher_teaches_and_is_left_alone(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    """With the whole loss from the teacher, the student comes to agree with it, right or wrong."""
    teacher, student, labelled = make_cnn(seed=1, dropout=0.5), make_cnn(), make_cnn()
    twisted = Dataset(
        "twisted",
        *(Split(s.images, (s.labels + 1) % 10) for s in (few_digits.train, few_digits.validation, few_digits.test)),
        classes=10,
    )
    recipe = replace(QUICK, epochs=15, distill_weight=1.0, augment="none")
    fit(teacher, twisted, recipe)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    teacher.train()
    fit(student, few_digits, recipe, teacher=teacher)
    assert teacher.training
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    fit(labelled, few_digits, recipe)
    assert evaluate(student, twisted.train).accuracy > 60
    assert evaluate(labelled, twisted.train).accuracy < 20


def test_modes_and_frozen_weights_stay(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    model = make_cnn().eval()
    model[1].train()
    model[0].weight.requires_grad_(False)
    frozen = model[0].weight.clone()
    fit(model, few_digits, replace(QUICK, epochs=1))
    assert [module.training for module in model] == [index == 1 for index in range(len(model))]
    assert torch.equal(model[0].weight, frozen)


def test_divergence_stops_with_everything_as_before(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.Linear(64, 64), nn.Linear(64, 10))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = Pull(model[1].weight)
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step \d+ of 5.*learning rate"):
        fit(model, few_digits, replace(QUICK, lr=1e12, warmup_epochs=0), algorithm=hooks)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert (hooks.epochs, hooks.steps) == (0, 0)


def test_a_checkpoint_of_other_settings_is_refused(few_digits: Dataset, make_cnn: MakeCnn, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    fit(make_cnn(), few_digits, replace(QUICK, epochs=1), checkpoint=path)
    written = path.read_bytes()
    shuffled = replace(few_digits, train=Split(few_digits.train.images.flip(0), few_digits.train.labels.flip(0)))
    quick = replace(QUICK, epochs=1)
    cases: list[tuple[str, nn.Module, Dataset, Recipe, dict[str, Any]]] = [
        ("recipe", make_cnn(), few_digits, QUICK, {}),
        ("seed", make_cnn(), few_digits, quick, {"seed": 1}),
        ("training data", make_cnn(), shuffled, quick, {}),
        ("teacher", make_cnn(), few_digits, quick, {"teacher": make_cnn()}),
        ("model's", make_cnn(width=8), few_digits, quick, {}),
    ]
    for what, model, dataset, recipe, options in cases:
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(CheckpointMismatch, match=f"its {what}"):
            fit(model, dataset, recipe, checkpoint=path, **options)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert path.read_bytes() == written


def test_a_checkpoint_of_another_teacher_is_refused(few_digits: Dataset, make_cnn: MakeCnn, tmp_path: Path) -> None:
    path, quick, teacher = tmp_path / "state.safetensors", replace(QUICK, epochs=1), make_cnn()
    fit(make_cnn(), few_digits, quick, teacher=teacher, checkpoint=path)
    fit(make_cnn(), few_digits, quick, teacher=teacher, checkpoint=path)
    with torch.no_grad():
        next(teacher.parameters()).mul_(1.01)
    with pytest.raises(CheckpointMismatch, match="its teacher"):
        fit(make_cnn(), few_digits, quick, teacher=teacher, checkpoint=path)


def test_a_checkpoint_that_began_with_other_weights_is_refused(
    few_digits: Dataset, make_cnn: MakeCnn, tmp_path: Path
) -> None:
    """It would give another network than the one that was to be trained; an older version's does not tell."""
    path, quick, other = tmp_path / "state.safetensors", replace(QUICK, epochs=1), make_cnn(seed=1)
    fit(make_cnn(), few_digits, quick, checkpoint=path)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointMismatch, match="weights before the first step"):
        fit(other, few_digits, quick, checkpoint=path)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())
    save_checkpoint(path, {key: value for key, value in load_checkpoint(path).items() if key != "start"})
    fit(other, few_digits, quick, checkpoint=path)


def test_a_picture_that_is_left_over_does_not_meet_a_batch_norm_alone(digits: Dataset) -> None:
    few = replace(digits, train=Split(digits.train.images[:65], digits.train.labels[:65]))
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(1), nn.Linear(1, 10))
    history = fit(model, few, Recipe(epochs=2, batch_size=32, warmup_epochs=1))
    assert history["loss"].notna().all()
    assert history["lr"].iloc[0] == pytest.approx(history["lr"].max())


def test_a_damaged_checkpoint_is_named_and_kept(few_digits: Dataset, make_cnn: MakeCnn, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    quick = replace(QUICK, epochs=1)
    fit(make_cnn(), few_digits, quick, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])
    model, untouched = make_cnn(), make_cnn()
    with pytest.raises(CheckpointCorrupt, match=str(path)):
        fit(model, few_digits, quick, checkpoint=path)
    assert same(model, untouched)
    assert path.exists()


def test_model_and_teacher_lie_channels_last_while_they_are_used(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    networks = make_cnn(), make_cnn(seed=1)
    weights = [weight for network in networks for weight in network.parameters() if weight.ndim == 4]
    weights = [weight for weight in weights if min(weight.shape[1:]) > 1]
    assert len(weights) >= 2

    def orders() -> list[bool]:
        return [weight.is_contiguous(memory_format=torch.channels_last) for weight in weights]

    during: list[bool] = []
    fit(networks[0], few_digits, QUICK, teacher=networks[1], on_epoch=lambda row: during.extend(orders()))
    assert all(during)
    assert not any(orders())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_runs_where_the_model_is(digits: Dataset, make_cnn: MakeCnn, tmp_path: Path) -> None:
    model = make_cnn(dropout=0.1).cuda()
    hooks = Pull(model[3].weight)
    path = tmp_path / "state.safetensors"
    recipe = Recipe(epochs=5, batch_size=32, augment="shift_flip")
    with pytest.raises(Killed):
        fit(model, digits, recipe, teacher=make_cnn().cuda(), algorithm=hooks, on_epoch=kill_after(2), checkpoint=path)
    resumed = make_cnn(dropout=0.1).cuda()
    fit(resumed, digits, recipe, teacher=make_cnn().cuda(), algorithm=Pull(resumed[3].weight), checkpoint=path)
    assert all(weight.is_cuda for weight in resumed.parameters())
    assert evaluate(resumed, digits.test).accuracy > 60


def test_a_frozen_network_is_refused_by_name(few_digits: Dataset, make_cnn: MakeCnn) -> None:
    with pytest.raises(NothingToTrain, match="Sequential"):
        fit(make_cnn().requires_grad_(False), few_digits, QUICK)
