"""A saved predictor: one JSON file, and the text of each boosted model beside it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from latency_model.errors import PredictorCorrupt, PredictorNotFound

FORMAT = 3
INDEX = "predictor.json"

T = TypeVar("T")


def save(folder: str | os.PathLike[str], facts: Mapping[str, Any], texts: Sequence[str]) -> None:
    """Write `facts` and the models.

    The models are named by their content and the index that names them is replaced last, so whoever is killed in
    between leaves the earlier predictor as it was.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"model-{_digest(text)}.txt" for text in texts]
    for name, text in zip(names, texts, strict=True):
        _write(folder / name, text)
    _write(folder / INDEX, json.dumps({"format": FORMAT, **facts, "models": names}, indent=1, allow_nan=False))
    for old in set(folder.glob("model-*.txt")) - {folder / name for name in names}:
        old.unlink()


def load(folder: str | os.PathLike[str], build: Callable[[Mapping[str, Any], Sequence[str]], T]) -> T:
    """Read what `save` wrote and hand it to `build`.

    Raises:
        PredictorNotFound: if there is no index.
        PredictorCorrupt: if anything in it cannot be read.
    """
    index = Path(folder) / INDEX
    if not index.is_file():
        raise PredictorNotFound(f"there is no {index}; fit a predictor and save it there first")
    try:
        facts = json.loads(index.read_text())
        if facts["format"] != FORMAT:
            raise PredictorCorrupt(f"{index} has format {facts['format']}, this version reads {FORMAT}; fit it again")
        return build(facts, [_read(index.parent / name) for name in facts["models"]])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise PredictorCorrupt(f"{index} cannot be read ({error!r}); fit the predictor again") from error


def number(value: float) -> float | str:
    """A float that JSON can hold; `float()` is the inverse."""
    return value if abs(value) < float("inf") else str(value)


def _read(path: Path) -> str:
    text = path.read_text() if path.is_file() else ""
    if path.name != f"model-{_digest(text)}.txt":
        raise PredictorCorrupt(f"{path} is missing, cut off or altered; fit the predictor again")
    return text


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _write(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.replace(name, path)
