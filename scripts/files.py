"""JSON and text files that are either whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.errors import RecordCorrupt
from training.files import replacing


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically, making its folder where it is missing."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """`write_bytes` of indented JSON; NaN and infinity are refused, as JSON has no such numbers."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`; `RecordCorrupt` names a file that is truncated or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordCorrupt(path, str(error)) from error
