"""What a run was asked for, as it was typed: kept beside its results, for commands that repeat it or nearly do."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from scripts.files import read_json, write_json
from search.storage import masked

OVERRIDES = "overrides.json"
_STORAGE = "storage"


def write_overrides(run_dir: Path, overrides: Sequence[str]) -> None:
    """Keep them, without a password."""
    shown = [f"{_STORAGE}={masked(one.partition('=')[2])}" if _key(one) == _STORAGE else one for one in overrides]
    write_json(run_dir / OVERRIDES, shown)


def repeated(run_dir: Path, *changes: str) -> str:
    """The command that runs the main job of `run_dir` again, with `changes`.

    A changed sampler, as in `search=random`, leaves the options of the other one behind.

    Raises:
        RecordCorrupt: the file is damaged.
    """
    changed = {_key(one) for one in changes}
    if "search" in changed:
        changed |= {"search.sampler", "search.options"}
    kept = [one for one in read_json(run_dir / OVERRIDES) if not _within(_key(one), changed)]
    return shlex.join(["npas", "search", *kept, *changes])


def _key(override: str) -> str:
    """`search.trials` of `+search.trials=5`."""
    return override.lstrip("+~").partition("=")[0]


def _within(key: str, changed: Collection[str]) -> bool:
    return any(key == one or (key.startswith(f"{one}.") and one != "search") for one in changed)
