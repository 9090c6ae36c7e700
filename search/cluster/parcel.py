"""Folders that go to another machine: a compiled network is its files, which load there without torch or a compiler."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from compiler import CompiledModel

Parcel = Mapping[str, bytes]
"""The files of a folder, by name."""


def pack(folder: Path) -> Parcel:
    """All files that lie in `folder` itself."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def pack_compiled(compiled: CompiledModel) -> Parcel:
    """The files of a compiled network, for `load_compiled`."""
    with tempfile.TemporaryDirectory(prefix="npas-") as folder:
        compiled.save(folder)
        return pack(Path(folder))


@contextmanager
def unpacked(parcel: Parcel) -> Iterator[Path]:
    """A folder with the files of `parcel`, while the context is open."""
    with tempfile.TemporaryDirectory(prefix="npas-") as folder:
        for name, content in parcel.items():
            (Path(folder) / name).write_bytes(content)
        yield Path(folder)
