"""The main job: its stages in order, and how a command runs those that it needs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from scripts.console import say
from scripts.files import write_text
from scripts.lock import held
from scripts.log import log_to
from scripts.stage import RunDirectory, Stage, needed

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
        reads=("data.name", "space", "device", "profile", "seed"),
        after=(),
        outputs=("kernels.parquet", "networks.json"),
        run=_in("scripts.profile"),
    ),
    Stage(
        name="predictor",
        about="fit the latency predictor and check it on kernels and networks it never saw",
        reads=("seed",),
        after=("profile",),
        outputs=("predictor",),
        run=_in("scripts.predictor"),
    ),
    Stage(
        name="supernet",
        about="train the weight-sharing network that every candidate is cut from",
        reads=(*_DATA, "space", "training.supernet", "seed"),
        after=(),
        outputs=("supernet.safetensors",),
        run=_in("scripts.supernet"),
    ),
    Stage(
        name="search",
        about="search operators, schemes and rates of all sites under the latency budget",
        reads=("budget", "search", "cluster", "seed"),
        after=("predictor", "supernet"),
        outputs=("study.db", "dense.json"),
        run=_in("scripts.search"),
    ),
    Stage(
        name="finetune",
        about="prune and fine-tune the best candidates that meet the budget when measured",
        reads=("training.finetune", "pruning", "winners", "seed"),
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
        reads=(),
        after=("measure",),
        outputs=("report.html", "pareto.png"),
        run=_in("scripts.report"),
    ),
)

# A command runs what it needs up to one stage; the main job goes on from the search to the report.
COMMANDS = {stage.name: "report" if stage.name == "search" else stage.name for stage in STAGES}


def run_command(command: str, config: DictConfig) -> None:
    """Check the whole configuration, then run the stages that `command` needs and that `config.run_dir` lacks."""
    importlib.import_module("scripts.inputs").check(config)
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with held(run_dir):
        log = log_to(run_dir / "log.jsonl")
        try:
            write_text(run_dir / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
            RunDirectory(run_dir, say).perform(STAGES, config, needed(STAGES, COMMANDS[command]))
        finally:
            log.close()
