"""The stages of `npas prune`, in order."""

from __future__ import annotations

from dataclasses import replace

from omegaconf import DictConfig

from scripts.prune import export, measure, plan, profile, report, train
from scripts.stage import Stage

_NETWORK = ("files.model", "files.checkpoint", "model", "input")
_DATA = ("data", "dataset", "files.dataset")

PROFILE = Stage(
    name="profile",
    about="time the kernels that the network may get, and some pruned networks, on the device",
    reads=(*_NETWORK, *_DATA, "menu", "device", "profile", "seed"),
    after=(),
    outputs=("kernels.parquet", "networks.json", "predictor"),
    run=profile.run,
)
ALLOCATE = Stage(
    name="plan",
    about="choose scheme and rate of every layer for the budget",
    reads=("budget", "importance", "margin", "predictor", "files.predictor"),
    after=("profile",),
    outputs=("plan.json",),
    run=plan.allocate_budget,
)
READ = Stage(
    name="plan",
    about="check the plan",
    reads=(*_NETWORK, *_DATA, "plan", "files.plan"),
    after=(),
    outputs=("plan.json",),
    run=plan.read_plan,
)
REST = (
    Stage(
        name="train",
        about="prune, and train where there are data",
        reads=("training.finetune", "pruning", "seed"),
        after=("plan",),
        outputs=("dense", "pruned", "training.json"),
        run=train.run,
    ),
    Stage(
        name="export",
        about="take out whole filters, compile, check against torch, write ONNX files",
        reads=("device",),
        after=("train",),
        outputs=("export.json",),
        run=export.run,
    ),
    Stage(
        name="measure",
        about="measure pruned network, dense network and ONNX Runtime side by side; test accuracy",
        reads=("seconds",),
        after=("export",),
        outputs=("metrics.json",),
        run=measure.run,
    ),
    Stage(
        name="report",
        about="write report.html and print the table of layers",
        reads=(),
        after=("measure",),
        outputs=("report.html",),
        run=report.run,
    ),
)


def stages(config: DictConfig) -> tuple[Stage, ...]:
    """Those for a plan, or those for a budget, which need a latency predictor first."""
    if config.plan is not None:
        return (READ, *REST)
    if config.predictor is None:
        return (PROFILE, ALLOCATE, *REST)
    return (replace(ALLOCATE, reads=(*PROFILE.reads, *ALLOCATE.reads), after=()), *REST)
