"""Several searches as one job: `npas sweep budget=50%,25% seed=0,1`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.markup import escape
from rich.table import Table

from scripts.check import check
from scripts.console import console, show_error
from scripts.errors import InvalidSweep, SweepUnfinished, is_named
from scripts.job import run_command, without_passwords
from scripts.report.contents import Contents
from scripts.user_files import note_files

COMMAND = "search"


@dataclass(frozen=True)
class Run:
    """One search of a sweep: what is special about it (`budget=25%,seed=1`), its configuration and all overrides."""

    name: str
    config: DictConfig
    overrides: tuple[str, ...] = ()

    @property
    def run_dir(self) -> Path:
        return Path(self.config.run_dir)


def make_runs(composed: Sequence[tuple[Sequence[str], DictConfig]]) -> list[Run]:
    """The runs of a multirun of Hydra: the overrides of each, and the configuration that they compose.

    Each gets a folder of its own within its `run_dir`, named after the overrides that not all of them have.

    Raises:
        InvalidSweep: there is nothing in which they differ, or two are the same.
    """
    common = set(composed[0][0]).intersection(*(overrides for overrides, _ in composed))
    special = [[one for one in overrides if one not in common] for overrides, _ in composed]
    names = [",".join(overrides) for overrides in special]
    folders = ["_".join(map(_as_folder, overrides)) for overrides in special]
    if not all(names):
        raise InvalidSweep("no setting has several values")
    if len(set(folders)) < len(folders):
        raise InvalidSweep(f"two of the runs are the same: {', '.join(names)}")
    runs = [
        Run(name, config.copy(), tuple(overrides)) for name, (overrides, config) in zip(names, composed, strict=True)
    ]
    for run, folder in zip(runs, folders, strict=True):
        run.config.run_dir = str(run.run_dir / folder)
    return runs


def _as_folder(override: str) -> str:
    """`budget=[50%,25%]` as `budget-50%-25%`: a name that can stand in another override without quotation marks."""
    return re.sub(r"[^\w.%+]+", "-", override).strip("-")


def show(runs: Sequence[Run], *, resolve: bool) -> None:
    """Print the configuration of each as a YAML document, and run none."""
    for number, run in enumerate(runs, 1):
        print(f"---\n# run {number} of {len(runs)}: {run.name}")
        print(OmegaConf.to_yaml(without_passwords(run.config), resolve=resolve), end="")


def sweep(runs: Sequence[Run]) -> None:
    """Run the main job for each, one after the other, and print what became of them.

    All of them are checked before the first begins. One that fails for a reason that has a name does not keep the
    others from running. They share this process, and so with `cluster=ray` one Ray job, whose workers each search has
    in turn. Kernels, predictor and supernet are taken from one another where they are the same. Finished runs are
    skipped, an interrupted one goes on.

    Raises:
        SweepUnfinished: at least one run failed.
    """
    for run in runs:
        note_files(run.config)
        check(run.config, COMMAND)
    failed: dict[str, str] = {}
    for number, run in enumerate(runs, 1):
        console.print(f"\n[bold]run {number} of {len(runs)}: {escape(run.name)}[/bold]", soft_wrap=True)
        try:
            others = [other.run_dir for other in runs if other is not run]
            run_command(COMMAND, run.config, overrides=run.overrides, others=others)
        except Exception as error:
            if not is_named(error):
                raise
            show_error(error)
            failed[run.name] = type(error).__name__
    console.print(table(runs, failed))
    if failed:
        raise SweepUnfinished(failed, len(runs))


def table(runs: Sequence[Run], failed: dict[str, str]) -> Table:
    """The best network of each run, or the name of the error that ended it."""
    shown = Table(title=f"{len(runs)} runs, the best network of each")
    for heading in ("run", "validation %", "test %", "predicted, ms", "measured, ms", "folder"):
        shown.add_column(heading, justify="left" if heading in ("run", "folder") else "right", overflow="fold")
    for run in runs:
        if run.name in failed:
            shown.add_row(escape(run.name), *["–"] * 4, failed[run.name], style="red")
        else:
            shown.add_row(escape(run.name), *_cells(run.run_dir))
    return shown


def _cells(run_dir: Path) -> tuple[str, ...]:
    best = Contents.read(run_dir).best
    if best is None:
        return (*["–"] * 4, escape(f"{run_dir}: none meets the budget when measured"))
    return (
        f"{best.validation_accuracy:.2f}",
        f"{best.test_accuracy:.2f}",
        f"{best.predicted_ms:.3f}",
        f"{best.measured_ms:.3f}",
        escape(str(run_dir / "winners" / best.name)),
    )
