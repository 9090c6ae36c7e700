"""Where files go that no longer hold: to `previous/`, each time to a folder of their own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path


def unused(run_dir: Path, name: str) -> Path:
    """The folder `previous/<name>`, or the first of `<name>-2`, `<name>-3`, … that is not there."""
    first = run_dir / "previous" / name
    numbered = (first.with_name(f"{name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([first], numbered) if not folder.exists())


def move_away(run_dir: Path, name: str, paths: Iterable[Path]) -> Path:
    """Move `paths` of `run_dir` to an unused folder of that name, in which they lie as they did; returns it."""
    target = unused(run_dir, name)
    for path in paths:
        moved = target / path.relative_to(run_dir)
        moved.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, moved)
    return target
