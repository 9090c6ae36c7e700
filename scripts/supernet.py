"""Train the weight-sharing network."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from scripts import inputs
from scripts.console import progress
from supernet import SuperNet, train_supernet
from training.checkpoint import load_checkpoint, save_checkpoint

_UNFINISHED = "supernet.unfinished.safetensors"


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `supernet.safetensors`; a training that was stopped goes on after its last whole epoch."""
    data = inputs.dataset(config)
    supernet = SuperNet(inputs.space(config, data), seed=config.seed)
    recipe = inputs.supernet_recipe(config)
    with progress() as bar:
        task = bar.add_task("supernet, epoch", total=recipe.epochs, note="")

        def show(row: Mapping[str, float]) -> None:
            note = ", ".join(f"{name.replace('_', ' ')} {row[name]:.1f} %" for name in row if "accuracy" in name)
            bar.update(task, completed=row["epoch"], note=note)

        train_supernet(supernet, data, recipe, seed=config.seed, on_epoch=show, checkpoint=run_dir / _UNFINISHED)
    save_checkpoint(run_dir / "supernet.safetensors", {"supernet": supernet.state_dict()})
    (run_dir / _UNFINISHED).unlink()


def load(config: DictConfig, run_dir: Path) -> SuperNet:
    """The trained supernet of a run, in evaluation mode.

    Raises:
        CheckpointNotFound, CheckpointCorrupt: it is missing or damaged.
    """
    supernet = SuperNet(inputs.space(config, inputs.dataset(config)), seed=config.seed)
    supernet.load_state_dict(load_checkpoint(run_dir / "supernet.safetensors")["supernet"])
    return supernet.eval()


if __name__ == "__main__":
    from scripts.cli import main

    main(["supernet", *sys.argv[1:]])
