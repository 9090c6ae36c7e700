"""What stands behind a command, `key=value ...`: read by Hydra, and explained where it cannot be."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf

from scripts.errors import InvalidOverride

_FULL_ERROR = "HYDRA_FULL_ERROR"
_NEAREST = 3
_COMMANDS = {"config": "search"}
"""Whose help shows a configuration, where it has another name."""


def quoted(override: str) -> str:
    """Every `scheme(...)@rate` with the quotation marks without which Hydra looks for a function of that name.

    Where there are quotation marks already, all is left as it is.
    """
    if "'" in override or '"' in override:
        return override
    return re.sub(r"\w+\([^()]*\)@[\d.]+", r"'\g<0>'", override)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Hydra's errors about overrides of the configuration `name` as one of ours.

    Raises:
        InvalidOverride: with what is allowed there.
    """
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"  # or Hydra prints them and ends the process
    try:
        yield
    except HydraException as error:
        raise InvalidOverride(*_explanation(error, name), _COMMANDS.get(name, name)) from error
    finally:
        if before is None:
            os.environ.pop(_FULL_ERROR)
        else:
            os.environ[_FULL_ERROR] = before


def _explanation(error: HydraException, name: str) -> tuple[str, str]:
    """What is wrong, and what is allowed."""
    lines = [line.rstrip(".") for line in str(error).splitlines() if not line.startswith("See https://")]
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, option = str(error.missing_cfg_file).partition("/")
        return f"There is no {option!r} in the group {group!r}", ", ".join(error.options or ())
    if isinstance(error, OverrideParseException):
        allowed = "key=value, in quotation marks where a value has brackets or blanks: 'budget=[50%,25%]'"
        return f"{error.override!r} cannot be read: {lines[-1]}", allowed
    if isinstance(error, ConfigCompositionException) and (unknown := re.match(r"Could not override '(.+)'", lines[0])):
        near = difflib.get_close_matches(unknown[1], _settings(name), _NEAREST, cutoff=0)
        more = f"; +{unknown[1]}=... for what a recipe has beside them" if unknown[1].startswith("training.") else ""
        return f"There is no setting {unknown[1]!r}", f"{', '.join(near)} and others{more}"
    return lines[0], "key=value for what is there, +key=value for what is not"


def _settings(name: str) -> list[str]:
    """All keys of a configuration, with dots."""
    with initialize_config_module("conf", version_base="1.3"):
        tree = OmegaConf.to_container(compose(name), resolve=False)
    assert isinstance(tree, dict)
    return list(_keys(tree))


def _keys(tree: dict[Any, Any]) -> Iterator[str]:
    for key, value in tree.items():
        yield str(key)
        if isinstance(value, dict):
            yield from (f"{key}.{inside}" for inside in _keys(value))
