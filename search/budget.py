"""Latency budgets as a user writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from search.errors import BudgetError

FRONT = "front"
FRONT_LIMITS = 6
FRONT_ROOM = 0.1

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


@dataclass(frozen=True)
class Budgets:
    """What one search is to meet: one limit, several, or with `limits` empty the whole front of trade-offs."""

    limits: tuple[Budget, ...]

    @classmethod
    def parse(cls, value: str | float | Sequence[str | float]) -> Budgets:
        """Read one budget, a list of them, or `"front"`.

        Raises:
            BudgetError: it is none of these, or the list is empty.
        """
        if value == FRONT:
            return cls(())
        values = [value] if isinstance(value, str | float | int) else list(value)
        if not values:
            raise BudgetError(f"an empty list of budgets; write at least one, such as [50%, 25%], or {FRONT}")
        return cls(tuple(Budget.parse(one) for one in values))

    def measured(self, dense_ms: float) -> tuple[float, ...]:
        """What networks are held against once they are measured, in milliseconds, the largest first; of a front, the
        dense network's latency."""
        return self.resolve(dense_ms, lambda: 0.0) if self.limits else (dense_ms,)

    def resolve(self, dense_ms: float, fastest_ms: Callable[[], float]) -> tuple[float, ...]:
        """Different limits in milliseconds, the largest first.

        The front is searched under six limits, in equal ratios from the dense network's latency down to a tenth over
        that of the fastest candidate.

        Args:
            dense_ms: latency of the dense network.
            fastest_ms: gives the predicted latency of the fastest candidate; called for the front only.

        Raises:
            BudgetError: two limits are equal, a latency is not positive, or for the front no candidate is faster than
                the dense network.
        """
        if self.limits:
            limits = sorted((budget.resolve(dense_ms) for budget in self.limits), reverse=True)
            if len(set(limits)) < len(limits):
                raise BudgetError(f"two of the budgets {', '.join(f'{ms:.4g} ms' for ms in limits)} are the same")
            return tuple(limits)
        first, last = Budget(fraction=1.0).resolve(dense_ms), (1 + FRONT_ROOM) * fastest_ms()
        if last >= first:
            raise BudgetError(
                f"there is no front to search: the dense network takes {first:.4g} ms, the fastest candidate is "
                f"predicted at {last / (1 + FRONT_ROOM):.4g} ms; offer cheaper choices (higher rates, skip)"
            )
        return tuple(float(ms) for ms in np.geomspace(first, last, FRONT_LIMITS))
