"""A network and data of the user's own: functions in Python files, and weights in a safetensors file."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from scripts.errors import CheckpointMismatch, DatasetNotFound, ModelNotFound, NotAModule
from training import Dataset
from training.errors import CheckpointCorrupt, CheckpointNotFound

SHOWN = 5
"""Names of the state that an error lists."""


def load_model(reference: str | None) -> nn.Module:
    """The module that a function returns when it is called without arguments.

    Args:
        reference: `path.py:function`. The file is imported as a module with its folder in Python's path, as when it
            is run. What its code raises is passed on.

    Raises:
        ModelNotFound: if there is no such file or function.
        NotAModule: if what it returns is no `nn.Module`.
    """
    model = _call(reference, ModelNotFound)
    if not isinstance(model, nn.Module):
        raise NotAModule(str(reference), type(model))
    return model


def load_dataset(reference: str) -> Dataset:
    """The dataset that a function returns, as `load_model` finds it.

    Raises:
        DatasetNotFound: if there is no such file or function, or what it returns is no `training.Dataset`.
    """
    data = _call(reference, DatasetNotFound)
    if not isinstance(data, Dataset):
        raise DatasetNotFound(reference, f"it returned {type(data).__name__}, not a training.Dataset")
    return data


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the state in a safetensors file into `model`; every name and shape must fit.

    Only the numbers of batches that batch norms have seen may be missing, as in files of old: they are of no use to a
    network, unless its batch norms have no momentum, and stay as they are.

    Raises:
        CheckpointNotFound: if there is no such file.
        CheckpointCorrupt: if it is no safetensors file.
        CheckpointMismatch: if names or shapes differ; the model is as it was.
    """
    if not path.is_file():
        raise CheckpointNotFound(f"there is no checkpoint at {path}")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise CheckpointCorrupt(
            path, f"{error}. Write one with safetensors.torch.save_file(model.state_dict(), path)"
        ) from error
    wanted = model.state_dict()
    state = {name: count for name, count in wanted.items() if name.endswith("num_batches_tracked")} | state
    problems = [*_names(wanted, state), *_shapes(wanted, state)]
    if problems:
        more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise CheckpointMismatch(path, "; ".join(problems[:SHOWN]) + more)
    model.load_state_dict(state)


def _names(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """Names that only one of both has, each with the nearest name in the other."""
    problems = []
    for owner, names, others in (("the network", wanted, found), ("the file", found, wanted)):
        for name in sorted(names.keys() - others.keys()):
            near = difflib.get_close_matches(name, others.keys(), n=1, cutoff=0.0)
            problems.append(f"only {owner} has {name}" + (f" (nearest in the other: {near[0]})" if near else ""))
    return problems


def _shapes(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    return [
        f"{name} is {tuple(found[name].shape)} in the file and {tuple(wanted[name].shape)} in the network"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]


def _call(reference: str | None, missing: type[ModelNotFound] | type[DatasetNotFound]) -> object:
    """What the function returns; `missing` is raised if there is none."""
    name, _, function = (reference or "").rpartition(":")
    if not name or not function:
        raise missing(reference, "it does not name a file and a function in it")
    path = Path(name)
    if not path.is_file():
        raise missing(reference, f"there is no file {path.resolve()}")
    specification = importlib.util.spec_from_file_location(f"npas_user_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise missing(reference, f"{path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    with _among_modules(module):
        sys.path.insert(0, str(path.resolve().parent))
        try:
            specification.loader.exec_module(module)
        finally:
            sys.path.pop(0)
        if not callable(getattr(module, function, None)):
            found = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            near = difflib.get_close_matches(function, found) or found[:SHOWN]
            raise missing(reference, f"{path} has no function {function!r}; near: {', '.join(near) or 'none'}")
        return getattr(module, function)()


@contextmanager
def _among_modules(module: ModuleType) -> Iterator[None]:
    """Within it, Python knows the module by its name, as dataclasses with annotations in text need.

    Not for longer: what a known module defines is sent to other processes by its name, which says nothing to them.
    """
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        sys.modules.pop(module.__name__, None)
