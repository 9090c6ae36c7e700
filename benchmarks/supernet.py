"""What sharing its weights costs a network: python -m benchmarks.supernet RUN_DIR

RUN_DIR is that of `npas supernet ...` or `npas search ...`, whose settings are used. The largest and the smallest
network of the space are judged inside the trained supernet, and after a training alone by the same recipe: initial
weights, number of steps, order and augmentation of the pictures, learning rates, decay, clipping and precision. Alone
there are only the labels to learn from, and the smallest network has its few channels and its masks, chosen by the
magnitude of the initial weights, from the first step on, and its last weights count, where a supernet leaves a moving
average behind. All are judged as the supernet's training judges its members, on the whole of the validation and of the
test split.

The trainings alone need only the settings of the run and may come before its supernet is there. One that was stopped
goes on after its last whole epoch; one that is finished is kept in RUN_DIR/alone and not done again.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from benchmarks.command_line import common, parser
from benchmarks.errors import NoSupernet
from benchmarks.machine import machine_facts
from benchmarks.tables import write_table
from pruning.algorithms.magnitude import Magnitude
from pruning.assignment import Assignment
from scripts import inputs
from scripts import supernet as supernet_stage
from supernet import Candidate, EvaluationRecipe, Network, OwnModel, SuperNet, SupernetRecipe, fast_evaluate
from supernet.extraction import Shared
from training import Dataset, fit
from training.batching import shuffled_batches


class Alone:
    """A network of its own, to be judged as if it were a member of a supernet."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def extract(self, candidate: Candidate, *, masked: bool = True) -> Network:
        return copy.deepcopy(self.network)


class TimedMasks(Magnitude):
    """Holds the masks; the history gets the `seconds` of each epoch."""

    def __init__(self, assignment: Assignment) -> None:
        super().__init__(assignment)
        self.epoch_started = time.perf_counter()

    def after_epoch(self) -> dict[str, float]:
        before, self.epoch_started = self.epoch_started, time.perf_counter()
        return {"seconds": self.epoch_started - before}


@contextmanager
def clipped(norm: float) -> Iterator[None]:
    """Within it, the gradient of every optimiser step has at most that norm."""

    def clip(optimizer: Optimizer, *_: object) -> None:
        nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], norm)

    handle = register_optimizer_step_pre_hook(clip)
    try:
        yield
    finally:
        handle.remove()


def train_alone(
    untrained: SuperNet, candidate: Candidate, data: Dataset, recipe: SupernetRecipe, *, seed: int, checkpoint: Path
) -> tuple[Network, pd.DataFrame]:
    """A network that starts as in the untrained supernet, trained without the others, and the history of `fit`.

    Args:
        checkpoint: is kept; where it is that of a finished training, nothing is trained.

    Raises:
        CheckpointMismatch, StateMismatch: the checkpoint is of another network, recipe, seed or dataset.
    """
    network = untrained.extract(candidate, masked=False)
    masks = TimedMasks(Assignment(network, torch.zeros(1, *data.input_shape), untrained.plan(candidate)))
    masks.finish()
    with clipped(recipe.clip):
        history = fit(network, data, recipe, algorithm=masks, seed=seed, on_epoch=_show, checkpoint=checkpoint)
    return network, history


def _show(row: Mapping[str, float]) -> None:
    print(f"epoch {row['epoch']}: {row['validation_accuracy']:.2f} %, {row['seconds']:.0f} s", flush=True)


def accuracies(
    shared: Shared[nn.Module], candidate: Candidate, data: Dataset, recipe: SupernetRecipe
) -> dict[str, float]:
    """Percent points on the `validation` and the `test` split, found as the training of a supernet finds them."""
    judged = EvaluationRecipe(recipe.recalibration_batches, augment=recipe.augment)
    return {
        name: fast_evaluate(shared, candidate, replace(data, validation=split), judged).accuracy
        for name, split in {"validation": data.validation, "test": data.test}.items()
    }


def compare(config: DictConfig, run_dir: Path) -> pd.DataFrame:
    """A row for the largest and one for the smallest network.

    Returns:
        `candidate`; `mmacs`, millions of multiply-accumulates for a picture; `epochs`, `steps` and `seconds` of the
        training alone; for either split, in percent points, the accuracy `inside`, the one `alone`, and by how much the
        former is `behind`.

    Raises:
        NoSupernet: the run has no supernet, or none that is trained; then the trainings alone are done and kept.
    """
    data, recipe = inputs.dataset(config), inputs.supernet_recipe(config)
    untrained = inputs.supernet(config, data)
    if isinstance(untrained, OwnModel):
        raise NoSupernet("a network of the user's own shares no weights; give a run with one of the staged spaces")
    space, folder = untrained.space, run_dir / "alone"
    candidates = {"largest": space.largest(), "smallest": space.smallest()}
    folder.mkdir(exist_ok=True)
    networks, rows = {}, []
    for name, candidate in candidates.items():
        print(f"{name}, alone", flush=True)
        checkpoint = folder / f"{name}.safetensors"
        network, history = train_alone(untrained, candidate, data, recipe, seed=config.seed, checkpoint=checkpoint)
        networks[name] = accuracies(Alone(network), candidate, data, recipe)
        print(", ".join(f"{split} {accuracy:.2f} %" for split, accuracy in networks[name].items()), flush=True)
        steps = len(history) * shuffled_batches(len(data.train), recipe.batch_size)
        rows.append(
            {
                "candidate": name,
                "mmacs": sum(layer.macs for layer in space.layers(candidate)) / 1e6,
                "epochs": len(history),
                "steps": steps,
                "seconds": history["seconds"].sum(),
            }
        )
    if not (run_dir / "supernet.safetensors").exists():
        raise NoSupernet(f"{run_dir} has no supernet.safetensors; repeat this command when npas is done with it")
    shared = supernet_stage.load(config, run_dir)
    for row in rows:
        name = str(row["candidate"])
        for split, inside in accuracies(shared, candidates[name], data, recipe).items():
            alone = networks[name][split]
            row |= {f"{split}_inside": inside, f"{split}_alone": alone, f"{split}_behind": alone - inside}
    return pd.DataFrame(rows)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("run_dir", type=Path)
    arguments = made.parse_args()
    told = common(arguments)
    config = OmegaConf.load(arguments.run_dir / "config.yaml")
    assert isinstance(config, DictConfig)
    torch.set_num_threads(config.threads)
    table = compare(config, arguments.run_dir)
    print(table.round(2).to_string(index=False))
    facts = {
        "data": config.data.name,
        "space": config.space.name,
        "seed": str(config.seed),
        "settle_share": f"{inputs.supernet_recipe(config).settle_share:g}",
    }
    write_table(told.folder / "supernet.csv", table, {**machine_facts(), **facts})


if __name__ == "__main__":
    main()
