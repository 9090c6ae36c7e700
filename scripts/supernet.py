"""Train the weight-sharing network, or prepare a network of the user's own for the search."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from scripts import inputs
from scripts.console import progress, say
from scripts.errors import OtherSupernet
from search import check_budget
from supernet import OwnModel, SuperNet, pretrain_replacements, train_supernet
from training import Dataset, fit, recalibrate_as_trained
from training.checkpoint import load_checkpoint, save_checkpoint

UNFINISHED = "supernet.unfinished.safetensors"


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `supernet.safetensors`; a training that was stopped goes on after its last whole epoch.

    Raises:
        InfeasibleBudget: the latency predictor, if it is there, says that no candidate meets the budget.
    """
    data = inputs.dataset(config)
    supernet = inputs.supernet(config, data)
    if (run_dir / "predictor").exists():
        check_budget(supernet, inputs.mapping(config.device), inputs.budgets(config), run_dir)
    if isinstance(supernet, OwnModel):
        _prepare(config, supernet, data, run_dir / UNFINISHED)
    else:
        _train(config, supernet, data, run_dir / UNFINISHED)
    save_checkpoint(run_dir / "supernet.safetensors", {"supernet": supernet.state_dict()})
    (run_dir / UNFINISHED).unlink(missing_ok=True)


def load(config: DictConfig, run_dir: Path) -> SuperNet | OwnModel:
    """The trained supernet of a run, or the user's network with its replacements, in evaluation mode.

    Raises:
        CheckpointNotFound, CheckpointCorrupt: it is missing or damaged.
        OtherSupernet: its weights have other names or shapes.
    """
    supernet = inputs.supernet(config, inputs.dataset(config))
    path = run_dir / "supernet.safetensors"
    try:
        supernet.load_state_dict(load_checkpoint(path)["supernet"])
    except RuntimeError as error:
        raise OtherSupernet(path, " ".join(str(error).split())[:200].rstrip(".")) from error
    return supernet.eval()


def _train(config: DictConfig, supernet: SuperNet, data: Dataset, unfinished: Path) -> None:
    recipe = inputs.supernet_recipe(config)
    with progress() as bar:
        task = bar.add_task("supernet, epoch", total=recipe.epochs, note="")

        def show(row: Mapping[str, float]) -> None:
            note = ", ".join(f"{name.replace('_', ' ')} {row[name]:.1f} %" for name in row if "accuracy" in name)
            bar.update(task, completed=row["epoch"], note=note)

        train_supernet(supernet, data, recipe, seed=config.seed, on_epoch=show, checkpoint=unfinished)


def _prepare(config: DictConfig, own: OwnModel, data: Dataset, unfinished: Path) -> None:
    """Repair what hard activations cost, then let each replacement learn what its layer computes."""
    recipe, trained = inputs.own_recipe(config), inputs.finetune_recipe(config)
    for name, reason in own.space.fixed.items():
        say(f"{name} stays as it is: {reason}")
    if own.hardening.left:
        say(f"{own.hardening.left} calls of sigmoid or swish in the forward pass stay: only modules can be replaced")
    if own.hardening.replaced:
        say(f"hard activations in the place of soft ones: {', '.join(own.hardening.replaced)}")
    if own.hardening.replaced and recipe.hardening_epochs:
        short = replace(trained, epochs=recipe.hardening_epochs, lr=recipe.hardening_lr, warmup_epochs=0)
        fit(own.network, data, short, seed=config.seed, checkpoint=unfinished)
        recalibrate_as_trained(own.network, data, trained, seed=config.seed)
    with progress() as bar:
        task = bar.add_task("replacements, step", total=recipe.reconstruction_steps, note="")
        if recipe.reconstruction_steps:
            errors = pretrain_replacements(
                own,
                data,
                steps=recipe.reconstruction_steps,
                batch_size=recipe.batch_size,
                lr=recipe.reconstruction_lr,
                augment=trained.augment,
                seed=config.seed,
                on_step=lambda step: bar.update(task, completed=step),
            )
    if recipe.reconstruction_steps and len(errors):
        for operator, rows in errors.groupby("operator", sort=False):
            before, after = rows["error_before"].median(), rows["error_after"].median()
            say(f"{operator} in {len(rows)} places: median error {before:.2f}, then {after:.2f} of the variance")


if __name__ == "__main__":
    from scripts.cli import main

    main(["supernet", *sys.argv[1:]])
