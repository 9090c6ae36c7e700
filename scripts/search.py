"""Search operators, schemes and rates of all sites under the budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from scripts import supernet as supernet_stage
from scripts.console import say
from scripts.live import live_view
from scripts.run_directory import Record
from scripts.scalars import scalars
from search import Evaluation, SearchResult, run_search
from search.calibration import CALIBRATION, read_calibration


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `study.db`, `dense.json`, `distortions.json`, `calibration.json` and `tensorboard/`.

    Finished trials of an interrupted search are kept.
    """
    settings: Any = OmegaConf.to_container(config, resolve=True)
    told = {**settings, "run_dir": str(run_dir), "study": _study_name(run_dir)}
    supernet = supernet_stage.load(config, run_dir)
    with live_view(config.search.trials) as view, scalars(run_dir) as curves:
        found: SearchResult

        def start(there: SearchResult) -> None:
            nonlocal found
            found = there
            for shown in (view, curves):
                shown.start(found)

        def show(evaluation: Evaluation) -> None:
            nonlocal found
            found = found.after(evaluation)
            for shown in (view, curves):
                shown.show(evaluation, found)

        result = run_search(told, show, on_start=start, on_site=view.look, supernet=supernet)
    off = 100 * (read_calibration(run_dir / CALIBRATION) - 1)
    say(f"predicted latencies were corrected by {off:+.1f} %, as measured on networks like those that are looked for")
    if result.exhausted:
        say("every candidate that is predicted to meet the budget was evaluated")


def _study_name(run_dir: Path) -> str:
    """A name in a database: as the file `study.db`, a study is of one run directory and one configuration."""
    record = Record.read(run_dir, "search")
    return f"npas-{run_dir.name}-{(record.origin or record.fingerprint) if record else 'alone'}"


if __name__ == "__main__":
    from scripts.cli import main

    main(["search", *sys.argv[1:]])
