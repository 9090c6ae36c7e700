"""Prune the network with the chosen algorithm, and train it with its masks held where there are data."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

from omegaconf import DictConfig

from pruning import make_algorithm
from scripts import inputs
from scripts.console import say, training_shown
from scripts.files import write_json
from scripts.prune import subject as subjects
from scripts.prune.planned import Planned
from scripts.prune.subject import Subject
from scripts.prune.weights import save_weights
from search import fit_pruned
from training import Recipe, evaluate, recalibrate_as_trained


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `dense/model.safetensors`, `pruned/model.safetensors` and `training.json`.

    Both hold the state of the user's own module, the pruned one with zeros. A training that was stopped goes on after
    its last whole epoch.
    """
    subject, recipe = Subject.load(config), subjects.recipe(config)
    network = copy.deepcopy(subject.model)
    planned = Planned.read(run_dir / "plan.json")
    options = inputs.mapping(config.pruning.options)
    algorithm = make_algorithm(config.pruning.algorithm, network, planned.plan, subject.examples, **options)
    unfinished = run_dir / "pruned" / "unfinished"
    epochs = 0
    if subject.data is not None and recipe is not None:
        with training_shown("pruning and training", recipe.epochs) as show:
            fit_pruned(
                network,
                subject.data,
                recipe,
                algorithm,
                config.pruning.epochs,
                unfinished,
                teacher=subject.model,
                seed=config.seed,
                on_epoch=show,
            )
        epochs = recipe.epochs
    else:
        algorithm.finish()
    accuracy = None
    if subject.data is None:
        say("there are no data: the network was not trained, and its accuracy is not measured")
    else:
        recalibrate_as_trained(network, subject.data, recipe or Recipe(), seed=config.seed)
        accuracy = evaluate(network, subject.data.validation).accuracy
    save_weights(subject.model, run_dir / "dense" / "model.safetensors")
    save_weights(network, run_dir / "pruned" / "model.safetensors")
    write_json(
        run_dir / "training.json",
        {
            "algorithm": config.pruning.algorithm,
            "epochs": epochs,
            "validation_accuracy": accuracy,
            "layers": {
                name: {"weights": mask.numel(), "kept": int(mask.sum())} for name, mask in algorithm.masks.items()
            },
        },
    )
    shutil.rmtree(unfinished, ignore_errors=True)
