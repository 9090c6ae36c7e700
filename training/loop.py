"""The training loop."""

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from training.batching import batches, shuffled_batches
from training.checkpoint import digest, load_checkpoint, require_same, save_checkpoint
from training.data import Dataset
from training.distillation import distillation_loss
from training.errors import CheckpointMismatch, NothingToTrain, TrainingDiverged
from training.evaluation import evaluate
from training.hooks import Hooks, NoHooks
from training.modules import channels_last, computes_channels_last, device_of, preserved_modes
from training.optimizer import make_optimizer, restore_velocities, velocities
from training.precision import Precision
from training.recipe import Recipe

Row = dict[str, float]


def fit(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    *,
    algorithm: Hooks | None = None,
    teacher: nn.Module | None = None,
    seed: int = 0,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    checkpoint: Path | str | None = None,
) -> pd.DataFrame:
    """Train a classifier in place, on the device where it is.

    The seed alone decides the order of the pictures, the augmentation and the dropout; torch's global random state is
    left as it was. Afterwards every module is in the mode it was in before.

    Args:
        model: images [B, C, H, W] -> logits [B, classes].
        algorithm: acts in every step and epoch, e.g. a pruning algorithm. Its `finish` is for the caller to call.
        teacher: its outputs are learned beside the labels; it stays as it is.
        on_epoch: is given each new row of the history, after the checkpoint was written.
        checkpoint: where the state is kept after every epoch. If the file is there, training goes on from it, on the
            CPU to the same bits as without the interruption.

    Returns:
        A row an epoch, also of those before a resume: `epoch` from 1, `lr` of its last step, `loss` and `penalty`
        (means over the training pictures; the penalty is not in the loss), `validation_loss`,
        `validation_accuracy` in percent points, and what the algorithm reports.

    Raises:
        NothingToTrain: no parameter asks for a gradient.
        TrainingDiverged: a loss is not finite; model and algorithm are as they were before the call.
        CheckpointMismatch: the checkpoint is of other settings, data, teacher or model, or of one with other weights at
            the start; nothing was changed. An algorithm may have an error of its own for a state of other options.
        CheckpointCorrupt: the checkpoint file is damaged; nothing was changed.
    """
    training = _Training(model, dataset, recipe, algorithm or NoHooks(), teacher, seed)
    path = None if checkpoint is None else Path(checkpoint)
    before = copy.deepcopy((model.state_dict(), training.hooks.state_dict()))
    if path is not None and path.exists():
        training.resume(path)
    with preserved_modes(model), training.order_in_memory(), training.private_randomness():
        while len(training.rows) < recipe.epochs:
            try:
                row = training.epoch()
            except TrainingDiverged:
                model.load_state_dict(before[0])
                training.hooks.load_state_dict(before[1])
                raise
            if path is not None:
                save_checkpoint(path, training.state())
            if on_epoch is not None:
                on_epoch(row)
    return pd.DataFrame(training.rows)


class _Training:
    """A training between two epochs; all its randomness is a function of seed and epoch."""

    def __init__(
        self, model: nn.Module, dataset: Dataset, recipe: Recipe, hooks: Hooks, teacher: nn.Module | None, seed: int
    ) -> None:
        self.model = model
        self.device = device_of(model)
        self.train = dataset.train.to(self.device)
        self.validation = dataset.validation.to(self.device)
        self.recipe = recipe
        self.precision = Precision(recipe.precision).on(self.device)
        self.hooks = hooks
        self.teacher = teacher
        self.seed = seed
        self.rows: list[Row] = []
        self.trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        if not self.trained:
            raise NothingToTrain(
                f"no parameter of {type(model).__name__} asks for a gradient, so that it cannot be trained. Call "
                "requires_grad_() on what is to learn"
            )
        self.optimizer = make_optimizer(list(self.trained.values()), recipe)
        self.identity = {
            "recipe": asdict(recipe),
            "precision": self.precision.value,
            "seed": seed,
            "training data": dataset.train.fingerprint(),
            "validation data": dataset.validation.fingerprint(),
            "algorithm": type(hooks).__name__,
            "teacher": None if teacher is None else _digest(teacher),
        }
        self.start = _digest(model)

    def private_randomness(self) -> AbstractContextManager[None]:
        """Within it, torch's global random state is this training's own."""
        return torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])

    def order_in_memory(self) -> AbstractContextManager[object]:
        """Within it, weights of model and teacher lie in the order that is the fastest for them."""
        with ExitStack() as orders, self.precision.autocast(self.device):
            for network in (self.model, self.teacher):
                if network is None or len(self.train) < 2:
                    continue
                if computes_channels_last(network, self.train.images[:2]):
                    orders.enter_context(channels_last(network))
            return orders.pop_all()

    def epoch(self) -> Row:
        """One pass over the training split, and its row of the history."""
        number = len(self.rows)
        order, rest = np.random.SeedSequence([self.seed, number]).generate_state(2, np.uint64)
        torch.manual_seed(int(rest))
        generator = Generator().manual_seed(int(order))
        steps = shuffled_batches(len(self.train), self.recipe.batch_size)
        loss = penalty = lr = 0.0
        self.model.train()
        passes = batches(self.train, self.recipe.batch_size, generator=generator, augment=self.recipe.augment)
        for step, (images, labels) in enumerate(passes):
            lr = self.recipe.learning_rate(number * steps + step, steps)
            step_loss, step_penalty = self._step(images, labels, lr)
            if not math.isfinite(step_loss + step_penalty):
                raise TrainingDiverged(
                    f"epoch {number + 1}, step {step + 1} of {steps}: loss {step_loss}, penalty {step_penalty} at "
                    f"learning rate {lr:.3g}. Lower the learning rate or lengthen the warm-up; "
                    f"model and algorithm are back to where training started."
                )
            loss += step_loss * len(labels)
            penalty += step_penalty * len(labels)
        diagnostics = self.hooks.after_epoch()
        metrics = evaluate(self.model, self.validation)
        if not math.isfinite(metrics.loss):
            raise TrainingDiverged(
                f"epoch {number + 1}: the validation loss is {metrics.loss}. Lower the learning rate or lengthen the "
                f"warm-up; model and algorithm are back to where training started."
            )
        row: Row = {
            "epoch": number + 1,
            "lr": lr,
            "loss": loss / len(self.train),
            "penalty": penalty / len(self.train),
            "validation_loss": metrics.loss,
            "validation_accuracy": metrics.accuracy,
            **diagnostics,
        }
        self.rows.append(row)
        return row

    def _step(self, images: Tensor, labels: Tensor, lr: float) -> tuple[float, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss = self._loss(images, labels)
        penalty = self.hooks.penalty().to(loss.device)
        self.optimizer.zero_grad()
        (loss + penalty).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.hooks.after_step()
        return loss.item(), penalty.item()

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        recipe = self.recipe
        with self.precision.autocast(self.device):
            logits = self.model(images)
        logits = logits.float()
        if self.teacher is None:
            return F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        with preserved_modes(self.teacher), torch.no_grad(), self.precision.autocast(self.device):
            soft = self.teacher.eval()(images)
        return distillation_loss(
            logits,
            soft.float(),
            labels,
            weight=recipe.distill_weight,
            temperature=recipe.temperature,
            label_smoothing=recipe.label_smoothing,
        )

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "identity": self.identity,
            "start": self.start,
            "history": self.rows,
            "model": self.model.state_dict(),
            "momentum": velocities(self.optimizer, self.trained),
            "algorithm": self.hooks.state_dict(),
        }

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same training."""
        state = load_checkpoint(path)
        require_same(path, state.get("identity", {}), self.identity)
        expected_shapes, found_shapes = _shapes(self.model.state_dict()), _shapes(state["model"])
        for name in expected_shapes.keys() | found_shapes.keys():
            if found_shapes.get(name) != expected_shapes.get(name):
                raise CheckpointMismatch(path, f"model's {name}", found_shapes.get(name), expected_shapes.get(name))
        started = state.get("start", self.start)  # checkpoints of older versions do not tell
        if started != self.start:
            raise CheckpointMismatch(path, "digest of the weights before the first step", started, self.start)
        self.hooks.load_state_dict(state["algorithm"])
        self.model.load_state_dict(state["model"])
        restore_velocities(self.optimizer, self.trained, state["momentum"])
        self.rows = state["history"]


def _digest(model: nn.Module) -> str:
    return digest(dict(model.named_parameters()) | dict(model.named_buffers()))


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}
