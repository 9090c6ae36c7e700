"""What can be wrong with the configuration of `npas prune`, found before anything is written."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from compiler import find_compiler
from compiler.capture import capture
from compiler.runtime import require_here
from latency_model import LatencyPredictor
from pruning import algorithm_names, make_algorithm
from pruning.algorithm import ALGORITHMS, check_algorithm
from scripts import inputs
from scripts.errors import InvalidSetting
from scripts.prune import subject as subjects
from scripts.prune.plan_text import file_of, parse_plan
from scripts.prune.subject import COMMAND, Subject
from scripts.ranges import ABOVE_ZERO, SHARE, require, whole_from
from scripts.user_files import sha256
from scripts.verification import outputs_of
from search import Budget
from training import require_classifier

IMPORTANCES = ("measured", "taylor", "energy")

NEED_DATA = ("measured", "taylor")

RANGES = {
    "seed": whole_from(0),
    "threads": whole_from(1),
    "margin": SHARE,
    "seconds": ABOVE_ZERO,
    "profile.kernels": whole_from(20),
    "profile.held_out": whole_from(1),
    "profile.networks": whole_from(1),
    "profile.seconds": ABOVE_ZERO,
    "pruning.epochs": whole_from(0),
}


def check(config: DictConfig) -> None:
    """Raise the named error of the first thing in `config` that cannot work."""
    if (config.plan is None) == (config.budget is None):
        both = "one of plan=... and budget=..."
        raise InvalidSetting("budget", config.budget, both if config.plan is None else f"{both}, not both", COMMAND)
    if config.budget is not None:
        Budget.parse(config.budget)
        subjects.menu(config)
        if config.predictor is not None:
            LatencyPredictor.load(config.predictor)
    require(config, RANGES, COMMAND)
    target = inputs.device(config).target
    require_here(target)
    find_compiler(target)
    torch.set_num_threads(config.threads)
    _check_training(config)
    subject = Subject.load(config)
    if subject.data is not None:
        require_classifier(subject.model, subject.data.input_shape, subject.data.classes)
    outputs_of(subject.model, subject.examples)
    capture(subject.model, subject.examples)  # so that what cannot be compiled is not trained either
    if config.plan is not None:
        options = inputs.mapping(config.pruning.options)
        model, plan = copy.deepcopy(subject.model), parse_plan(config.plan)
        make_algorithm(config.pruning.algorithm, model, plan, subject.examples, **options)


def fingerprints(config: DictConfig) -> dict[str, str | None]:
    """SHA-256 of the files that the configuration names: their content decides, not their name."""
    plan = None if config.plan is None else file_of(config.plan)
    predictor = None if config.predictor is None else Path(config.predictor)
    return {
        "model": sha256(Path(str(config.model).rpartition(":")[0])),
        "dataset": None if config.dataset is None else sha256(Path(config.dataset.rpartition(":")[0])),
        "checkpoint": None if config.checkpoint is None else sha256(Path(config.checkpoint)),
        "plan": None if plan is None else sha256(plan),
        "predictor": None if predictor is None else sha256(*sorted(p for p in predictor.iterdir() if p.is_file())),
    }


def _check_training(config: DictConfig) -> None:
    """Data, training and algorithm have to go together."""
    data = OmegaConf.select(config, "data") is not None or config.dataset is not None
    recipe = subjects.recipe(config) if data else None
    algorithm = config.pruning.algorithm
    check_algorithm(algorithm, **inputs.mapping(config.pruning.options))
    if ALGORITHMS[algorithm].needs_training and recipe is None:
        untrained = ", ".join(name for name in algorithm_names() if not ALGORITHMS[name].needs_training)
        why = "training is null" if data else "there are no data (data=..., dataset=...)"
        raise InvalidSetting("pruning", algorithm, f"{untrained}, since {why}", COMMAND)
    if recipe is not None and config.pruning.epochs >= recipe.epochs:
        allowed = f"below training.finetune.epochs = {recipe.epochs}"
        raise InvalidSetting("pruning.epochs", config.pruning.epochs, allowed, COMMAND)
    if config.importance not in (None, *IMPORTANCES) or (config.importance in NEED_DATA and not data):
        allowed = f"{', '.join(IMPORTANCES)}; {' and '.join(NEED_DATA)} need data"
        raise InvalidSetting("importance", config.importance, allowed, COMMAND)
