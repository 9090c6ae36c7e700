"""Files of the user's that a configuration names: their content decides what a run is, not their names."""

from __future__ import annotations

import hashlib
from pathlib import Path

from omegaconf import DictConfig, OmegaConf


def sha256(*paths: Path) -> str:
    """Of the bytes of all files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def note_files(config: DictConfig) -> None:
    """Note as `config.files` what the files behind `model` and `checkpoint` hold, if there is a network of the user's.

    A file that is not there is noted as None; whoever loads it says so.
    """
    if config.model is None:
        return
    named = {"model": str(config.model).rpartition(":")[0], "checkpoint": config.checkpoint}
    paths = {key: Path(str(name)) for key, name in named.items()}
    found = {key: sha256(path) if path.is_file() else None for key, path in paths.items()}
    OmegaConf.update(config, "files", found, force_add=True)
