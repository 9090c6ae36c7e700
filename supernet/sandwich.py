"""Training a supernet: sandwich rule, in-place distillation, random masks."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from supernet.candidate import Candidate
from supernet.collapse import CollapseDetector
from supernet.errors import SupernetCollapsed
from supernet.evaluation import EvaluationRecipe, fast_evaluate
from supernet.members import Members
from supernet.operators import make_operator
from supernet.recipe import SupernetRecipe
from supernet.supernet import FORMAT, SuperNet
from training import Dataset, batches, distillation_loss, load_checkpoint, save_checkpoint
from training.batching import shuffled_batches
from training.checkpoint import require_same
from training.modules import channels_last, device_of, preserved_modes
from training.optimizer import make_optimizer, restore_velocities, velocities
from training.precision import Precision

Row = dict[str, float]


def train_supernet(
    supernet: SuperNet,
    dataset: Dataset,
    recipe: SupernetRecipe,
    *,
    seed: int = 0,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    checkpoint: Path | str | None = None,
) -> pd.DataFrame:
    """Trains a supernet in place, on the device where it is (2011.09118, 2102.07954).

    A step: the largest member on the labels, the smallest and random ones on the largest one's soft output; their
    gradients add up, are clipped by norm, and move the shared weights once. In the last `settle_share` of the training
    the students' count by their mean where the largest has the weight too. Judged and left behind is the exponential
    moving average of the weights. The seed alone decides the order of the pictures, the augmentation and the members;
    torch's global random state is left alone.

    Args:
        on_epoch: is given each new row of the history, after the checkpoint was written.
        checkpoint: where the state is kept after every epoch in which no signal of a collapse held. If the file is
            there, training goes on from it, on the CPU to the same bits as without the interruption.

    Returns:
        A row an epoch, also of those before a resume: `epoch` from 1, `lr` of its last step, `loss_largest`,
        `loss_smallest` and, with random members, `loss_random` (means over the training pictures), and in percent
        points, on the validation split after recalibration, `accuracy_largest`, `accuracy_smallest`,
        `accuracy_random` (a random member without pruning) and `accuracy_pruned` (one with it, as far as the training
        has come to that), the last two being the same members after every epoch.

    Raises:
        SupernetCollapsed: the training went wrong; the supernet is as it was before the call.
        CheckpointMismatch: the checkpoint is of another space, recipe, seed or dataset; nothing was changed.
        CheckpointCorrupt: the checkpoint file is damaged; nothing was changed.
    """
    training = _Training(supernet, dataset, recipe, seed)
    path = None if checkpoint is None else Path(checkpoint)
    before = copy.deepcopy(supernet.state_dict())
    if path is not None and path.exists():
        training.resume(path)
    with preserved_modes(supernet), channels_last(supernet):
        while len(training.rows) < recipe.epochs:
            try:
                row = training.epoch()
            except SupernetCollapsed:
                supernet.load_state_dict(before)
                raise
            if path is not None and not training.detector.alarmed:
                save_checkpoint(path, training.state())
            if on_epoch is not None:
                on_epoch(row)
    supernet.load_state_dict(training.averaged.state_dict())
    return pd.DataFrame(training.rows)


class _Training:
    """A training between two epochs; all its randomness is a function of seed and epoch."""

    def __init__(self, supernet: SuperNet, dataset: Dataset, recipe: SupernetRecipe, seed: int) -> None:
        self.supernet = supernet
        self.dataset = dataset
        self.train = dataset.train.to(device_of(supernet))
        self.recipe = recipe
        self.precision = Precision(recipe.precision).on(device_of(supernet))
        self.seed = seed
        self.steps_per_epoch = shuffled_batches(len(dataset.train), recipe.batch_size)
        self.steps = recipe.epochs * self.steps_per_epoch
        moving = get_ema_multi_avg_fn(recipe.ema_decay(self.steps))  # type: ignore[no-untyped-call]
        self.average = AveragedModel(supernet, multi_avg_fn=moving)
        averaged = self.average.module
        assert isinstance(averaged, SuperNet)
        self.averaged = averaged
        self.rows: list[Row] = []
        self.members = cache(partial(Members, supernet.space))
        self.selector = supernet.selector()
        self.detector = CollapseDetector(
            self.steps, warmup=round(recipe.warmup_epochs * self.steps_per_epoch), classes=dataset.classes
        )
        self.trained = dict(supernet.named_parameters())
        self.optimizer = make_optimizer(list(self.trained.values()), recipe)
        self.identity = {
            "format": FORMAT,
            "space": supernet.space.fingerprint(),
            "recipe": asdict(recipe),
            "precision": self.precision.value,
            "seed": seed,
            "training data": dataset.train.fingerprint(),
        }

    def epoch(self) -> Row:
        """One pass over the training split, and its row of the history."""
        number = len(self.rows)
        order, members = np.random.SeedSequence([self.seed, number]).generate_state(2, np.uint64)
        rng = np.random.default_rng(members)
        generator = Generator().manual_seed(int(order))
        sums: defaultdict[str, float] = defaultdict(float)
        reached: dict[str, bool] = {}
        lr = 0.0
        self.supernet.train()
        passes = batches(self.train, self.recipe.batch_size, generator=generator, augment=self.recipe.augment)
        for i, (images, labels) in enumerate(passes):
            if i % self.recipe.mask_period == 0:
                self.selector.forget()
            step = number * self.steps_per_epoch + i
            lr = self.recipe.learning_rate(step, self.steps_per_epoch)
            for name, loss in self._step(step, images, labels, lr, rng, reached).items():
                sums[name] += loss * len(labels)
        if dead := [path for path, alive in reached.items() if not alive]:
            raise self._collapsed(f"no gradient reached {', '.join(dead)} during an epoch", step)
        row: Row = {"epoch": number + 1, "lr": lr}
        row |= {name: total / len(self.train) for name, total in sums.items()}
        judged = self._judged(self.recipe.max_rate(step / self.steps))
        row |= {f"accuracy_{name}": self._accuracy(member) for name, member in judged.items()}
        self.rows.append(row)
        return row

    def _step(
        self,
        step: int,
        images: Tensor,
        labels: Tensor,
        lr: float,
        rng: np.random.Generator,
        reached: dict[str, bool],
    ) -> dict[str, float]:
        """One update; returns the mean loss of each kind of member."""
        progress = step / self.steps
        members = self.members(self.recipe.max_rate(progress))
        random = [members.sample(rng) for _ in range(self.recipe.random_members)]
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        teacher = self._logits(images, members.largest)
        loss = F.cross_entropy(teacher, labels, label_smoothing=self.recipe.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        teacher = teacher.detach()
        students = (members.smallest, *random)
        largest_counts = float(len(students)) if self.recipe.settles(progress) else 1.0
        of_largest = [weight.grad for weight in self.trained.values() if weight.grad is not None]
        for weight_gradient in of_largest:
            weight_gradient.mul_(largest_counts)
        losses, smallest = [], teacher
        for member in students:
            student = self._logits(images, member)
            student_loss = distillation_loss(
                student,
                teacher,
                labels,
                weight=self.recipe.distill_weight,
                temperature=self.recipe.temperature,
                label_smoothing=self.recipe.label_smoothing,
            )
            student_loss.backward()  # type: ignore[no-untyped-call]
            losses.append(student_loss.item())
            if member is members.smallest:
                smallest = student.detach()
        for weight_gradient in of_largest:
            weight_gradient.div_(largest_counts)
        gradient = nn.utils.clip_grad_norm_(self.trained.values(), self.recipe.clip)
        signal = self.detector.step(
            step,
            loss=loss.item(),
            largest=_share_right(teacher, labels),
            smallest=_share_right(smallest, labels),
            gradient=gradient.item(),
        )
        if signal is not None:
            raise self._collapsed(signal, step)
        self._note_gradients((members.largest, *students), reached)
        self.optimizer.step()
        self.average.update_parameters(self.supernet)
        means = {"loss_largest": loss.item(), "loss_smallest": losses[0]}
        return means | ({"loss_random": float(np.mean(losses[1:]))} if random else {})

    def _logits(self, images: Tensor, member: Candidate) -> Tensor:
        with self.precision.autocast(images.device):
            logits: Tensor = self.supernet(images, member, selector=self.selector)
        return logits.float()

    def _note_gradients(self, members: tuple[Candidate, ...], reached: dict[str, bool]) -> None:
        """Marks the shared weights that members used, and whether any gradient has reached them this epoch."""
        for member in members:
            for site, choice in enumerate(member.choices):
                path = f"sites.{site}.{make_operator(choice.operator).family}"
                if choice.operator == "skip" or reached.get(path):
                    continue
                weights = self.supernet.get_submodule(path).parameters()
                reached[path] = any(bool(weight.grad.any()) for weight in weights if weight.grad is not None)

    def _judged(self, max_rate: float) -> dict[str, Candidate]:
        """The members that are validated after an epoch."""
        members, dense = self.members(max_rate), self.members(1.0)
        return {
            "largest": members.largest,
            "smallest": members.smallest,
            "random": dense.sample(np.random.default_rng(self.seed)),
            "pruned": members.sample(np.random.default_rng(self.seed)),
        }

    def _accuracy(self, member: Candidate) -> float:
        recipe = EvaluationRecipe(self.recipe.recalibration_batches, augment=self.recipe.augment)
        return fast_evaluate(self.averaged, member, self.dataset, recipe).accuracy

    def _collapsed(self, signal: str, step: int) -> SupernetCollapsed:
        return SupernetCollapsed(signal, step + 1, self.steps, [row["loss_largest"] for row in self.rows])

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "identity": self.identity,
            "history": self.rows,
            "detector": self.detector.state_dict(),
            "supernet": self.supernet.state_dict(),
            "average": self.average.state_dict(),
            "momentum": velocities(self.optimizer, self.trained),
        }

    def resume(self, path: Path) -> None:
        """Goes on from a checkpoint of the same training."""
        state = load_checkpoint(path)
        require_same(path, state.get("identity", {}), self.identity)
        self.supernet.load_state_dict(state["supernet"])
        self.average.load_state_dict(state["average"])
        self.detector.load_state_dict(state["detector"])
        restore_velocities(self.optimizer, self.trained, state["momentum"])
        self.rows = state["history"]


def _share_right(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).float().mean().item()
