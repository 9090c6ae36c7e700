"""Run a command: check the configuration, then the stages that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from scripts.check import check
from scripts.console import say, warnings_shown
from scripts.files import write_text
from scripts.lock import held
from scripts.log import log_to
from scripts.overrides_file import write_overrides
from scripts.run_directory import RunDirectory
from scripts.stage import needed
from scripts.stages import COMMANDS, STAGES, stages_for
from scripts.user_files import note_files
from search.storage import masked

BEFORE_SEARCH = needed(STAGES, "search")[:-1]


def run_command(
    command: str, config: DictConfig, *, overrides: Sequence[str] = (), others: Sequence[Path] = ()
) -> None:
    """Check the whole configuration, then run the stages that `command` needs and that `config.run_dir` lacks.

    What the search rests on is copied from one of the run directories `others`, where it is the same. Waiting for a
    cluster or a database, workers that died and evaluations that failed are told on the terminal.

    Args:
        overrides: what was typed to get `config`, for the commands that a report proposes.
    """
    note_files(config)
    check(config, command)
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with held(run_dir), warnings_shown("search"):
        log = log_to(run_dir / "log.jsonl")
        try:
            write_text(run_dir / "config.yaml", OmegaConf.to_yaml(without_passwords(config), resolve=True))
            write_overrides(run_dir, overrides)
            place, stages = RunDirectory(run_dir, say), stages_for(config)
            if others:
                place.adopt(stages, config, BEFORE_SEARCH, others)
            place.perform(stages, config, needed(stages, COMMANDS[command]))
        finally:
            log.close()


def without_passwords(config: DictConfig) -> DictConfig:
    """The configuration as it may be shown and written."""
    shown = config.copy()
    if config.storage is not None:
        shown.storage = masked(config.storage)
    return shown
