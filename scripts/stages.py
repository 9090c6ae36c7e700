"""The stages of the main job, in order, and the commands that run them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from scripts.stage import Stage

_MODEL = ("model", "checkpoint")
_DATA = ("data.name", "data.validation")


def _in(module: str) -> Callable[[DictConfig, Path], None]:
    """`module.run`, imported when the stage runs: `npas --help` need not wait for torch."""

    def run(config: DictConfig, run_dir: Path) -> None:
        importlib.import_module(module).run(config, run_dir)

    return run


STAGES = (
    Stage(
        name="profile",
        about="time kernels and small networks of the search space on the device",
        reads=("data.name", "space", *_MODEL, "device", "profile", "seed"),
        after=(),
        outputs=("kernels.parquet", "networks.json"),
        run=_in("scripts.profile"),
    ),
    Stage(
        name="predictor",
        about="fit the latency predictor and check it on kernels and networks it never saw",
        reads=("source", "seed"),
        after=("profile",),
        outputs=("predictor",),
        run=_in("scripts.predictor"),
    ),
    Stage(
        name="supernet",
        about="train the weight-sharing network that every candidate is cut from",
        reads=(*_DATA, "space", *_MODEL, "training.supernet", "training.own_model", "seed"),
        after=(),
        outputs=("supernet.safetensors",),
        run=_in("scripts.supernet"),
        leftovers=("supernet.unfinished.safetensors",),
    ),
    Stage(
        name="search",
        about="search operators, schemes and rates of all sites under the latency budget",
        reads=("budget", "search", "seed"),
        after=("predictor", "supernet"),
        outputs=("study.db", "dense.json", "distortions.json", "calibration.json"),
        run=_in("scripts.search"),
        grows="search.trials",
        leftovers=("study.db-wal", "study.db-shm"),
    ),
    Stage(
        name="finetune",
        about="prune and fine-tune the best candidates that meet the budget when measured",
        reads=("training.finetune", "pruning", "tournament", "winners", "seed"),
        after=("search",),
        outputs=("shortlist.json", "dense", "winners"),
        run=_in("scripts.finetune"),
    ),
    Stage(
        name="export",
        about="compile the winners and write them as ONNX files",
        reads=(),
        after=("finetune",),
        outputs=("export.json",),
        run=_in("scripts.export"),
    ),
    Stage(
        name="measure",
        about="measure winners, dense network and ONNX Runtime side by side; test accuracy",
        reads=("winners.seconds",),
        after=("export",),
        outputs=("measured.json",),
        run=_in("scripts.measure"),
    ),
    Stage(
        name="report",
        about="write report.html and print the table",
        reads=("compare",),
        after=("measure",),
        outputs=("report.html", "pareto.png"),
        run=_in("scripts.report"),
    ),
)


def stages_for(config: DictConfig) -> tuple[Stage, ...]:
    """All of them; of a network of the user's own, what its files hold decides too, as `note_files` noted it."""
    if OmegaConf.select(config, "files") is None:
        return STAGES
    return tuple(replace(stage, reads=(*stage.reads, "files")) if "model" in stage.reads else stage for stage in STAGES)


# A command runs what it needs up to one stage; the main job goes on from the search to the report.
COMMANDS = {stage.name: "report" if stage.name == "search" else stage.name for stage in STAGES}
