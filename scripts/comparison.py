"""Searches of other runs that a report shows beside its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, ListConfig, OmegaConf

from scripts.errors import InvalidSetting, NotComparable
from scripts.run_directory import Record
from scripts.trials import finished_trials

SAME = (
    "data.name",
    "data.validation",
    "space",
    "model",
    "checkpoint",
    "files",
    "device",
    "budget",
    "training.supernet",
    "training.own_model",
    "search.recalibration_batches",
    "search.pictures",
    "search.steps",
)
"""What must be equal for accuracies of candidates to be comparable: all that they depend on but sampler and seed."""


@dataclass(frozen=True)
class Compared:
    """The search of another run; `trials` as in `Contents`."""

    run_dir: Path
    sampler: str
    seed: int
    trials: pd.DataFrame


def compared(config: DictConfig) -> tuple[Compared, ...]:
    """The searches in the folders `config.compare`.

    Raises:
        InvalidSetting: it is no list.
        NotComparable: a folder holds no finished search of the same space, data and budget, or that of this very run.
        RecordCorrupt: a file in it is damaged.
    """
    folders = config.get("compare", ListConfig([]))
    if not OmegaConf.is_list(folders):
        raise InvalidSetting("compare", folders, "a list of folders, such as [runs/random]")
    return tuple(_read(Path(folder), config) for folder in folders)


def _read(run_dir: Path, config: DictConfig) -> Compared:
    if run_dir.resolve() == Path(config.run_dir).resolve():
        raise NotComparable(run_dir, "it is the folder of this run")
    if not (run_dir / "config.yaml").exists():
        raise NotComparable(run_dir, "there is no run (no config.yaml)")
    record = Record.read(run_dir, "search")
    if record is None or not record.finished:
        raise NotComparable(run_dir, "its search is not finished")
    other = OmegaConf.load(run_dir / "config.yaml")
    assert isinstance(other, DictConfig)
    for key in SAME:
        there, here = _plain(other, key), _plain(config, key)
        if there != here:
            raise NotComparable(run_dir, f"{key} is {there} there and {here} here")
    return Compared(run_dir, other.search.sampler, other.seed, finished_trials(run_dir / "study.db"))


def _plain(config: DictConfig, key: str) -> Any:
    found = OmegaConf.select(config, key)
    return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
