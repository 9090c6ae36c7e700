"""Run a command: check the configuration, then the stages that are missing."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from scripts import inputs
from scripts.console import say
from scripts.files import write_text
from scripts.lock import held
from scripts.log import log_to
from scripts.run_directory import RunDirectory
from scripts.stage import needed
from scripts.stages import COMMANDS, STAGES
from search.storage import masked


def run_command(command: str, config: DictConfig) -> None:
    """Check the whole configuration, then run the stages that `command` needs and that `config.run_dir` lacks."""
    inputs.check(config, command)
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with held(run_dir):
        log = log_to(run_dir / "log.jsonl")
        try:
            write_text(run_dir / "config.yaml", OmegaConf.to_yaml(_without_passwords(config), resolve=True))
            RunDirectory(run_dir, say).perform(STAGES, config, needed(STAGES, COMMANDS[command]))
        finally:
            log.close()


def _without_passwords(config: DictConfig) -> DictConfig:
    shown = config.copy()
    if config.storage is not None:
        shown.storage = masked(config.storage)
    return shown
