"""A compiled network on disk: C source, library, constants and a manifest with their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from compiler.errors import ArtifactCorrupt
from compiler.listing import Listing
from compiler.runtime import Program, Signature

FORMAT = 3
FILES = ("kernels.c", "libmodel.so", "constants.safetensors")


def write(program: Program, listing: Listing, folder: Path) -> None:
    """Write a network to `folder`, each file atomically and the manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "kernels.c", lambda path: path.write_text(listing.source))
    _write(folder / "libmodel.so", lambda path: shutil.copyfile(program.library, path))
    constants = {"constants": np.ascontiguousarray(program.constants)}
    _write(folder / "constants.safetensors", lambda path: save_file(constants, path))
    manifest = {
        "format": FORMAT,
        "target": listing.target,
        "compiler": listing.compiler,
        "signature": asdict(program.signature),
        "live_bytes": listing.live_bytes,
        "kernels": [dict(row) for row in listing.kernels],
        "sha256": {name: _sha256(folder / name) for name in FILES},
    }
    _write(folder / "manifest.json", lambda path: path.write_text(json.dumps(manifest, indent=1)))


def read(folder: Path) -> tuple[Program, Listing]:
    """The network in `folder`.

    Raises:
        ArtifactCorrupt: if a file is missing, truncated or altered.
    """
    manifest = _manifest(folder / "manifest.json")
    for name, expected in manifest["sha256"].items():
        path = folder / name
        if not path.exists():
            raise ArtifactCorrupt(f"{path} is missing; save the network again")
        if _sha256(path) != expected:
            raise ArtifactCorrupt(f"{path} was altered or is incomplete (its checksum differs); save the network again")
    try:
        constants = load_file(folder / "constants.safetensors")["constants"]
    except (SafetensorError, KeyError) as error:
        raise ArtifactCorrupt(f"{folder / 'constants.safetensors'} holds no constants: {error}") from error
    fields = manifest["signature"]
    signature = Signature(
        tuple(map(tuple, fields["inputs"])),
        tuple(map(tuple, fields["outputs"])),
        tuple(fields["types"]),
        fields["arena"],
        fields["kernels"],
        fields["threads"],
    )
    listing = Listing(
        manifest["target"],
        manifest["compiler"],
        tuple(manifest["kernels"]),
        (folder / "kernels.c").read_text(),
        manifest["live_bytes"],
    )
    return Program((folder / "libmodel.so").resolve(), constants, signature), listing


def _manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ArtifactCorrupt(f"{path} is missing; {path.parent} holds no compiled network")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        known = manifest["format"] == FORMAT and set(FILES) == set(manifest["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(f"{path} is not a manifest of a compiled network: {error}") from error
    if not known:
        raise ArtifactCorrupt(f"{path} has format {manifest['format']}; this version reads format {FORMAT}")
    return manifest


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
