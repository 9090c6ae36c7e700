"""What can be wrong with the configuration of a stage or of the main job, found before anything is written."""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from compiler import find_compiler
from compiler.runtime import require_here
from latency_model.runners.local import LocalRunner
from pruning.algorithm import check_algorithm
from scripts import inputs
from scripts.comparison import compared
from scripts.errors import InvalidSetting
from scripts.ranges import ABOVE_ZERO, SHARE, require, whole_from
from search.cluster.runner import ClusterRunner
from search.run import evaluation_recipe
from search.samplers import check_sampler

ELSEWHERE = ("profile", "predictor")
"""Commands for which the device may be another machine."""

RANGES = {
    "seed": whole_from(0),
    "threads": whole_from(1),
    "search.trials": whole_from(1),
    "profile.held_out": whole_from(1),
    "profile.minutes": ABOVE_ZERO.or_null(),
    "profile.networks": whole_from(3),
    "profile.seconds": ABOVE_ZERO,
    "winners.pareto": whole_from(1),
    "winners.at_least": whole_from(1),
    "winners.margin": SHARE,
    "winners.seconds": ABOVE_ZERO,
    "pruning.epochs": whole_from(0),
}

_KERNELS = 20
"""The fewest from which a predictor is fitted without those of other devices."""


def check(config: DictConfig, command: str) -> None:
    """Raise the named error of the first thing that cannot work for `command`."""
    inputs.budgets(config)
    finetune = inputs.finetune_recipe(config)
    inputs.supernet_recipe(config)
    inputs.own_recipe(config)
    require(config, RANGES, command)
    require(config, {"winners.at_most": whole_from(config.winners.at_least)}, command)
    sources = inputs.sources(config)
    require(config, {"profile.kernels": whole_from(0 if sources else _KERNELS)}, command)
    evaluation_recipe(inputs.mapping(config))
    options = inputs.mapping(config.search).get("options") or {}
    check_sampler(config.search.sampler, options)
    inputs.cluster(config).check(config.search.trials)
    _check_pruning(config, finetune.epochs, command)
    _check_device(config, command)
    compared(config)
    inputs.space(config, inputs.dataset(config))
    torch.set_num_threads(config.threads)


def _check_pruning(config: DictConfig, finetune_epochs: int, command: str) -> None:
    """The algorithm of the group `pruning`, or all those of a tournament."""
    pruning = {"pruning": config.pruning}
    if config.tournament.entrants:
        in_tournament = ("epochs", "first_rung", "reduction")
        require(config, {f"tournament.{key}": whole_from(1) for key in in_tournament}, command)
        bracket = inputs.bracket(config)
        assert bracket is not None
        for entrant in bracket.entrants:
            check_algorithm(entrant.algorithm, **entrant.options)
        names = [entrant.algorithm for entrant in bracket.entrants]
        if missing := [name for name in names if name not in config.tournament.long]:
            known = sorted(config.tournament.long)
            raise InvalidSetting("tournament.long", known, f"also with {', '.join(missing)}", command)
        pruning = {f"tournament.long.{name}": config.tournament.long[name] for name in names}
    for key, chosen in pruning.items():
        require(config, {f"{key}.epochs": whole_from(0)}, command)
        check_algorithm(chosen.algorithm, **inputs.mapping(chosen.options))
        if chosen.epochs >= finetune_epochs:
            below = f"below training.finetune.epochs = {finetune_epochs}"
            raise InvalidSetting(f"{key}.epochs", chosen.epochs, below, command)


def _check_device(config: DictConfig, command: str) -> None:
    device = inputs.device(config)
    runner = device.runner
    if isinstance(runner, LocalRunner) or (isinstance(runner, ClusterRunner) and runner.in_process):
        require_here(device.target)
    elif command not in ELSEWHERE:
        allowed = f"devices in this process, for all but {' and '.join(ELSEWHERE)}"
        raise InvalidSetting("device", device.name, allowed, command)
    find_compiler(device.target)
