"""Results on disk: CSV files that start with the facts about the machine, a `# key: value` line each."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from benchmarks.errors import ResultsMissing

RESULTS = Path(__file__).parent / "results"
QUICK_RESULTS = Path("runs/benchmarks")


def write_table(path: Path, table: pd.DataFrame, facts: Mapping[str, str]) -> None:
    """Replace the file at once, so that a run that is stopped leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = "".join(f"# {key}: {' '.join(value.split())}\n" for key, value in facts.items())
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(header + table.to_csv(index=False, float_format="%.6g"))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_table(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """A table and the facts it was written with.

    Raises:
        ResultsMissing: if there is no such file.
    """
    if not path.exists():
        raise ResultsMissing(f"{path} is not there; measure it first with python -m benchmarks.{path.stem}")
    facts = {}
    with path.open() as file:
        for line in file:
            if not line.startswith("# "):
                break
            key, _, value = line[2:].strip().partition(": ")
            facts[key] = value
    return pd.read_csv(path, skiprows=len(facts), keep_default_na=False, na_values=["", "nan"]), facts
