"""Which numbers a setting may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from omegaconf import DictConfig, OmegaConf

from scripts.errors import InvalidSetting


@dataclass(frozen=True)
class Numbers:
    """The numbers for which `holds`, in words `allowed`."""

    allowed: str
    holds: Callable[[float], bool]
    whole: bool = False
    null: bool = False

    def or_null(self) -> Numbers:
        """Null too."""
        return replace(self, allowed=f"null, or {self.allowed}", null=True)

    def __contains__(self, value: object) -> bool:
        if value is None:
            return self.null
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return self.holds(value)


def whole_from(least: int) -> Numbers:
    """Whole numbers from `least`."""
    return Numbers(f"whole numbers from {least}", lambda value: value >= least, whole=True)


ABOVE_ZERO = Numbers("numbers above 0", lambda value: 0 < value < math.inf)

SHARE = Numbers("numbers from 0 to below 1", lambda value: 0 <= value < 1)


def require(config: DictConfig, ranges: Mapping[str, Numbers], command: str) -> None:
    """Raises InvalidSetting for the first key, with dots, whose value is outside of its range."""
    for key, numbers in ranges.items():
        found = OmegaConf.select(config, key)
        if found not in numbers:
            raise InvalidSetting(key, found, numbers.allowed, command)
