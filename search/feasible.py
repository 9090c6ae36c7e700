"""The candidates under the budget: who is admitted, who is the fastest, and how to draw one that is new."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Container, Iterator
from functools import cached_property

import numpy as np

from search.encoding import Code, Encoding
from search.errors import InfeasibleBudget, InvalidLatency
from supernet import Candidate

LatencyFunction = Callable[[Candidate], float]
"""Predicted latency of a candidate in milliseconds, with whatever safety the caller wants."""

REJECTION_DRAWS = 1_000
MASKED_DRAWS = 200
ENUMERABLE = 20_000
DESCENTS = 8


class FeasibleSet:
    """Admission filter of a search: a candidate over the budget never costs an evaluation.

    Latencies are remembered, so that asking twice is free. `extra_ms[site][index]` is what a choice costs over
    the fastest candidate's choice at that site, all other sites being as in the fastest candidate; for additive
    latencies the sum of these extras is exact, otherwise it only guides the drawing, and `admits` decides.

    Raises:
        InfeasibleBudget: not even the fastest candidate meets the budget.
        InvalidLatency: the latency function returned no positive finite number.
    """

    def __init__(self, encoding: Encoding, latency: LatencyFunction, budget_ms: float) -> None:
        self.encoding = encoding
        self.budget_ms = budget_ms
        self._latency = latency
        self._known: dict[Code, float] = {}
        self._smallest = encoding.code(encoding.space.smallest())
        if not self.admits(self._smallest) and not self.admits(self.fastest):
            raise InfeasibleBudget(
                f"the budget is {budget_ms:.4g} ms, but the fastest candidate of this space is predicted at "
                f"{self.latency_ms(self.fastest):.4g} ms: allow at least that much, or offer cheaper choices "
                f"(higher rates, skip). The fastest candidate is {encoding.candidate(self.fastest)}"
            )

    @cached_property
    def fastest(self) -> Code:
        """The fastest candidate, as far as improving the smallest one, and if need be random ones, finds it."""
        rng = np.random.default_rng(0)
        best = self._descend(self._smallest)
        if self.admits(best):
            return best
        starts = (self._descend(self.encoding.draw(rng)) for _ in range(DESCENTS))
        return min(best, *starts, key=self.latency_ms)

    @property
    def slack_ms(self) -> float:
        """What the budget leaves to the fastest candidate."""
        return self.budget_ms - self.latency_ms(self.fastest)

    @cached_property
    def extra_ms(self) -> tuple[tuple[float, ...], ...]:
        """See above."""
        return tuple(tuple(max(0.0, extra) for extra in extras) for extras in self.extras_ms(self.fastest))

    def extras_ms(self, code: Code) -> tuple[tuple[float, ...], ...]:
        """What each choice costs over the code's own at that site, all other sites being as in the code; below 0 where
        it is faster."""
        own_ms = self.latency_ms(code)
        return tuple(
            tuple(self.latency_ms((*code[:site], index, *code[site + 1 :])) - own_ms for index in range(size))
            for site, size in enumerate(self.encoding.sizes)
        )

    def latency_ms(self, code: Code) -> float:
        """Predicted latency in milliseconds."""
        if code not in self._known:
            candidate = self.encoding.candidate(code)
            latency = float(self._latency(candidate))
            if not (math.isfinite(latency) and latency > 0):
                raise InvalidLatency(
                    f"the latency function returned {latency} for {candidate}; it must return milliseconds > 0: "
                    "check the latency predictor, or fit it again"
                )
            self._known[code] = latency
        return self._known[code]

    def admits(self, code: Code) -> bool:
        """Whether the candidate is predicted to meet the budget."""
        return self.latency_ms(code) <= self.budget_ms

    @property
    def rejected(self) -> int:
        """Number of candidates looked at so far that do not meet the budget."""
        return sum(latency_ms > self.budget_ms for latency_ms in self._known.values())

    def draw(self, rng: np.random.Generator, seen: Container[Code]) -> Code | None:
        """A new admitted code, or None when there is none left.

        Uniform over the admitted codes by rejection; where too few draws are admitted, site by site under a mask
        of what the budget still allows, sites in random order; where that finds nothing new, by enumeration.
        """
        for _ in range(REJECTION_DRAWS):
            code = self.encoding.draw(rng)
            if code not in seen and self.admits(code):
                return code
        for _ in range(MASKED_DRAWS):
            code = self._draw_masked(rng)
            if code not in seen and self.admits(code):
                return code
        return self._first_new(seen)

    def exhausted(self, seen: Container[Code]) -> bool:
        """Whether every admitted code has been seen.

        Exact for spaces of up to 20,000 candidates. In larger ones it follows one-site changes from the fastest
        candidate through admitted codes, which reaches all of them when latencies are additive.
        """
        return self._first_new(seen) is None

    def _draw_masked(self, rng: np.random.Generator) -> Code:
        left = self.slack_ms
        code = list(self.fastest)
        for site in rng.permutation(len(code)):
            extras = self.extra_ms[site]
            affordable = [index for index, extra in enumerate(extras) if extra <= left]
            code[site] = affordable[int(rng.integers(len(affordable)))]
            left -= extras[code[site]]
        return tuple(code)

    def _first_new(self, seen: Container[Code]) -> Code | None:
        return next((code for code in self._admitted() if code not in seen), None)

    def _admitted(self) -> Iterator[Code]:
        if math.prod(self.encoding.sizes) <= ENUMERABLE:
            yield from filter(self.admits, itertools.product(*map(range, self.encoding.sizes)))
            return
        reached = {self.fastest}
        queue = deque([self.fastest])
        while queue:
            code = queue.popleft()
            yield code
            for neighbour in self.encoding.neighbours(code):
                if neighbour not in reached and self.admits(neighbour):
                    reached.add(neighbour)
                    queue.append(neighbour)

    def _descend(self, code: Code) -> Code:
        """Improve the latency one site at a time until no site helps."""
        while True:
            start = code
            for site, size in enumerate(self.encoding.sizes):
                options = [(*code[:site], index, *code[site + 1 :]) for index in range(size)]
                code = min([code, *options], key=self.latency_ms)
            if code == start:
                return code
