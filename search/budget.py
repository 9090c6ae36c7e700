"""Latency budgets as a user writes them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from search.errors import BudgetError

_PATTERN = re.compile(r"\s*(?P<number>\S+?)\s*(?P<unit>%|ms)?\s*")


@dataclass(frozen=True)
class Budget:
    """A latency limit: milliseconds, or a fraction of the dense network's latency.

    Exactly one of `ms` and `fraction` is set.
    """

    ms: float | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        given = [number for number in (self.ms, self.fraction) if number is not None]
        if len(given) != 1 or not (math.isfinite(given[0]) and given[0] > 0):
            raise BudgetError(f"a budget is one positive number, as milliseconds or as a fraction; found {self!r}")

    @classmethod
    def parse(cls, text: str | float) -> Budget:
        """Read `"50%"`, `"2ms"` or a bare number of milliseconds.

        Raises:
            BudgetError: it is none of these, or not positive.
        """
        match = _PATTERN.fullmatch(str(text))
        try:
            number = float(match["number"]) if match else math.nan
        except ValueError:
            number = math.nan
        if match is None or isinstance(text, bool) or not (math.isfinite(number) and number > 0):
            raise BudgetError(
                f"{text!r} is not a latency budget; write milliseconds (2ms, or 2.0) or a percentage of the dense "
                "network's latency (50%), larger than 0"
            )
        return cls(fraction=number / 100) if match["unit"] == "%" else cls(ms=number)

    def resolve(self, dense_ms: float) -> float:
        """The limit in milliseconds, given the dense network's latency in milliseconds.

        Raises:
            BudgetError: the dense latency is not a positive number.
        """
        if self.ms is not None:
            return self.ms
        if not (math.isfinite(dense_ms) and dense_ms > 0):
            raise BudgetError(f"a dense latency of {dense_ms} ms cannot carry a relative budget; measure it again")
        assert self.fraction is not None
        return self.fraction * dense_ms

    def __str__(self) -> str:
        return f"{self.ms:g}ms" if self.ms is not None else f"{100 * (self.fraction or 0):g}%"
