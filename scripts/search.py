"""Search operators, schemes and rates of all sites under the budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from scripts import supernet as supernet_stage
from scripts.console import progress, say, warnings_shown
from scripts.run_directory import Record
from search import Evaluation, run_search


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `study.db` and `dense.json`; finished trials of an interrupted search are kept.

    Waiting for a database, workers that died and evaluations that failed are told on the terminal.
    """
    settings: Any = OmegaConf.to_container(config, resolve=True)
    with progress() as bar:
        task = bar.add_task("candidates", total=config.search.trials, note="")
        best = 0.0

        def show(evaluation: Evaluation) -> None:
            nonlocal best
            best = max(best, evaluation.accuracy if evaluation.failure is None else 0.0)
            note = f"{evaluation.accuracy:.1f} % at {evaluation.predicted_ms:.3f} ms predicted, best {best:.1f} %"
            bar.update(task, completed=evaluation.done, note=note)

        supernet = supernet_stage.load(config, run_dir)
        told = {**settings, "run_dir": str(run_dir), "study": _study_name(run_dir)}
        with warnings_shown("search"):
            result = run_search(told, show, supernet=supernet)
    if result.exhausted:
        say("every candidate that is predicted to meet the budget was evaluated")


def _study_name(run_dir: Path) -> str:
    """A name in a database: as the file `study.db`, a study is of one run directory and one configuration."""
    record = Record.read(run_dir, "search")
    return f"npas-{run_dir.name}-{record.fingerprint if record else 'alone'}"


if __name__ == "__main__":
    from scripts.cli import main

    main(["search", *sys.argv[1:]])
