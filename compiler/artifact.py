"""A compiled network on disk: C source, library, constants and a manifest with their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import save_file

from compiler.errors import ArtifactCorrupt, DirectoryUnwritable
from compiler.listing import Listing
from compiler.runtime import Program, Signature, aligned
from compiler.target import Target

FORMAT = 3
FILES = ("kernels.c", "libmodel.so", "constants.safetensors")


def write(program: Program, listing: Listing, folder: Path) -> None:
    """Write a network to `folder`, the manifest last.

    Raises:
        DirectoryUnwritable: if the system refuses, e.g. because the disk is full; an earlier network is still there.
    """
    with writing(folder) as fresh:
        (fresh / "kernels.c").write_text(listing.source)
        shutil.copyfile(program.library, fresh / "libmodel.so")
        save_file({"constants": np.ascontiguousarray(program.constants)}, fresh / "constants.safetensors")
        content = {
            "target": asdict(program.target),
            "command": listing.command,
            "compiler": listing.compiler,
            "signature": asdict(program.signature),
            "live_bytes": listing.live_bytes,
            "kernels": [dict(row) for row in listing.kernels],
            "sha256": {name: hashlib.sha256((fresh / name).read_bytes()).hexdigest() for name in FILES},
        }
        manifest = {"format": FORMAT, "sha256": _content_checksum(content), "content": content}
        (fresh / "manifest.json").write_text(json.dumps(manifest, indent=1))


def read(folder: Path) -> tuple[Program, Listing]:
    """The network in `folder`.

    Raises:
        ArtifactCorrupt: if a file is missing, truncated or altered, or of another version of this format.
    """
    content = _content(folder)
    checksums = content["sha256"]
    source = _read(folder / "kernels.c", checksums["kernels.c"]).decode()
    _read(folder / "libmodel.so", checksums["libmodel.so"])
    constants = _constants(folder / "constants.safetensors", checksums["constants.safetensors"])
    target = Target(**{**content["target"], "flags": tuple(content["target"]["flags"])})
    fields = content["signature"]
    signature = Signature(
        tuple(map(tuple, fields["inputs"])),
        tuple(map(tuple, fields["outputs"])),
        tuple(fields["types"]),
        fields["arena"],
        fields["kernels"],
        fields["threads"],
    )
    rows = tuple(content["kernels"])
    listing = Listing(content["command"], content["compiler"], rows, source, content["live_bytes"])
    return Program((folder / "libmodel.so").resolve(), constants, signature, target), listing


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A fresh directory to write files to; when the block ends without an error they take their places in `folder`.

    Raises:
        DirectoryUnwritable: in place of what the system raises.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".npas-", dir=folder) as name:
            fresh = Path(name)
            yield fresh
            for path in sorted(fresh.iterdir(), key=lambda path: path.name == "manifest.json"):
                os.replace(path, folder / path.name)
    except (OSError, SafetensorError) as error:
        raise DirectoryUnwritable(
            f"cannot write a compiled network to {folder}: {error}. Free some space, or choose a directory that can be "
            "written; what was there before is untouched."
        ) from error


def _content(folder: Path) -> dict[str, Any]:
    """What the manifest says, after its own checks."""
    path = folder / "manifest.json"
    if not folder.is_dir():
        raise ArtifactCorrupt(f"{folder} is not a directory; give the one that a network was saved to")
    text = _read(path, None)
    try:
        manifest: dict[str, Any] = json.loads(text)
        found = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(f"{path} is not a manifest of a compiled network: {error}") from error
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        advice = "update npas to read it" if newer else "compile and save the network again"
        raise ArtifactCorrupt(f"{path} has format {found}; this version reads format {FORMAT}: {advice}")
    content = manifest.get("content")
    if not isinstance(content, dict) or manifest.get("sha256") != _content_checksum(content):
        raise ArtifactCorrupt(f"{path} was altered (its checksum differs); save the network again")
    return content


def _read(path: Path, checksum: str | None) -> bytes:
    with _opened(path) as file:
        data = file.read()
    if checksum is not None:
        _compare(path, checksum, hashlib.sha256(data))
    return data


def _constants(path: Path, checksum: str) -> npt.NDArray[np.uint8]:
    """The one tensor of a safetensors file, read straight to where kernels want it: networks may be large."""
    with _opened(path) as file:
        length = file.read(8)
        header = file.read(int.from_bytes(length, "little"))
        constants = aligned(max(0, path.stat().st_size - file.tell()))
        file.readinto(constants.data)
    found = hashlib.sha256(length + header)
    found.update(constants.data)
    _compare(path, checksum, found)
    try:
        (entry,) = json.loads(header).values()
        whole = entry["dtype"] == "U8" and entry["data_offsets"] == [0, len(constants)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactCorrupt(f"{path} holds no constants: {error}") from error
    if not whole:
        raise ArtifactCorrupt(f"{path} holds no constants: its tensor is {entry}")
    return constants


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise ArtifactCorrupt(f"{path} is missing; save the network again") from error
    except OSError as error:
        raise ArtifactCorrupt(f"{path} cannot be read: {error.strerror}") from error


def _compare(path: Path, checksum: str, found: hashlib._Hash) -> None:
    if found.hexdigest() != checksum:
        raise ArtifactCorrupt(f"{path} was altered or is incomplete (its checksum differs); save the network again")


def _content_checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
