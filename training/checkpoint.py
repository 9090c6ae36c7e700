"""One file that holds the state of anything: tensors as safetensors, everything else as JSON in the same file."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.errors import CheckpointCorrupt, CheckpointMismatch, CheckpointNotFound, NotStorable
from training.files import replacing

FORMAT = "npas checkpoint 1"
TENSOR = "$tensor"


def save_checkpoint(path: Path | str, state: Mapping[str, Any]) -> None:
    """Write a state: nested mappings (with text keys) and lists of tensors, numbers, texts, booleans and None.

    The file is replaced in one step: after a crash either the old or the new checkpoint is there. Any other program
    can read the tensors; their names are the keys on the way to them, joined by "/".

    Raises:
        NotStorable: something in the state is of another type; names where.
    """
    tensors: dict[str, Tensor] = {}
    content = json.dumps(_outline(state, "", tensors))
    metadata = {"format": FORMAT, "content": content, "sha256": digest(tensors, content)}
    with replacing(Path(path)) as temporary:
        save_file(tensors, temporary, metadata)


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """The state that was saved, tensors on the CPU, tuples as lists.

    Raises:
        CheckpointNotFound: there is no such file.
        CheckpointCorrupt: it is truncated, damaged, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointNotFound(f"there is no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointCorrupt(path, str(error)) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointCorrupt(path, f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
    content = metadata.get("content", "")
    if digest(tensors, content) != metadata.get("sha256"):
        raise CheckpointCorrupt(path, "its checksum does not fit what it holds")
    state = _fill(json.loads(content), tensors)
    assert isinstance(state, dict)
    return state


def require_same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises `CheckpointMismatch` for the first fact in which a checkpoint's training differs from this one."""
    for what, value in expected.items():
        if found.get(what) != value:
            raise CheckpointMismatch(path, what, found.get(what), value)


def digest(tensors: Mapping[str, Tensor], content: str = "") -> str:
    """SHA-256 of a text and of the values of tensors in the order of their names, wherever they lie."""
    found = hashlib.sha256(content.encode())
    for name in sorted(tensors):
        found.update(tensors[name].detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _outline(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """The value with every tensor moved to `tensors` and its name left in its place."""
    if isinstance(value, Tensor):
        if where in tensors:
            raise NotStorable(f"two tensors of the state would both be called {where!r}; rename one of the keys")
        tensors[where] = value.detach().to("cpu", copy=True).contiguous()
        return {TENSOR: where}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == TENSOR:
                raise NotStorable(f"{where or 'the state'} has the key {key!r}; keys are texts other than {TENSOR!r}")
        return {key: _outline(item, _join(where, key), tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_outline(item, _join(where, str(index)), tensors) for index, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise NotStorable(
        f"{where} is a {type(value).__name__}; a checkpoint holds tensors, numbers, texts, lists, mappings"
    )


def _fill(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_outline`."""
    if isinstance(value, dict):
        if TENSOR in value:
            return tensors[value[TENSOR]]
        return {key: _fill(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, tensors) for item in value]
    return value


def _join(where: str, key: str) -> str:
    return f"{where}/{key}" if where else key
