"""A plan as a user writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from pruning import Sparsity
from scripts.errors import PlanUnreadable

Plan = Sparsity | dict[str, Sparsity]


def file_of(found: Any) -> Path | None:
    """The YAML file that a plan names, None if it is no file's name."""
    return Path(found) if isinstance(found, str) and found.endswith((".yaml", ".yml")) else None


def parse_plan(found: Any) -> Plan:
    """One sparsity for every layer, or sparsities by module name or pattern.

    Args:
        found: text such as "block_punched(16x1)@5", the name of a YAML file, or a mapping. Mappings may be nested:
            {layer1: {0: {conv1: filter@2}}} names layer1.0.conv1.

    Raises:
        PlanUnreadable: it is none of these.
        UnknownScheme, InvalidScheme, InvalidRate: a sparsity is none.
    """
    if (path := file_of(found)) is not None:
        if not path.is_file():
            raise PlanUnreadable(found, f"there is no file {path.resolve()}")
        try:
            found = OmegaConf.load(path)
        except (YAMLError, OSError) as error:
            raise PlanUnreadable(path, f"it is not YAML ({error})") from error
    if isinstance(found, DictConfig):
        found = OmegaConf.to_container(found)
    if isinstance(found, str):
        return Sparsity.parse(found)
    if isinstance(found, Mapping) and found:
        return {name: Sparsity.parse(text) for name, text in _flat(found, "")}
    raise PlanUnreadable(found, "it is neither a text nor a mapping of names to texts, or it is empty")


def _flat(nested: Mapping[Any, Any], prefix: str) -> list[tuple[str, str]]:
    pairs = []
    for key, value in nested.items():
        if isinstance(key, float):
            reason = (
                f"{key} is a number, of which 1.1 and 1.10 are the same: quote the name, or write {{1: {{10: ...}}}}"
            )
            raise PlanUnreadable({key: value}, reason)
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{name}.")
        elif isinstance(value, str):
            pairs.append((name, value))
        else:
            raise PlanUnreadable({name: value}, f"{value!r} is not a sparsity such as filter@2")
    return pairs
