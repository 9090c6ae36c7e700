"""Candidates that are good by rule, before any was evaluated: the least distortion of the outputs within the budget."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
from numpy.typing import NDArray

from search.encoding import Code
from search.feasible import FeasibleSet
from supernet import Distortions

POWERS = (4.0, 8.0, 2.0, 1.0)
"""What is tried without noise, in this order."""
NEGLIGIBLE = 1e-3
"""Of the variance of the outputs."""
SPREAD = 0.2
"""Mean deviation of the logarithms of what distortions are multiplied by in a draw."""
PRICES = (-80.0, 40.0)
"""Of ln(lambda), distortions and milliseconds being relative to their largest."""
BISECTIONS = 40
APPROACHES = 2
"""Times that costs are asked for anew, around the candidate that the last answers led to."""
CORRECTIONS = 6
FILLS = 8
"""One-site changes that are looked at, to use up what is left of a budget."""
DOUBT = 0.1
"""By how much a change may be expected to exceed what is left, and is looked at all the same."""
TRIES = 10


class LeastDistortion:
    """Trades distortions against latency at one price lambda for all sites.

    A site takes the choice of the least distortion^power + lambda * milliseconds, lambda being as low as the budget
    allows. What is left of the budget then goes to single sites. The power would be 1 if distortions added up (Everett
    1963; a knapsack, as HALP solves, arXiv 2110.10811). But at rates that halve a latency no site may be cut off: what
    it does not let through is lost to all behind it. Higher powers spread the damage evenly.

    What a choice costs depends on the others: a rate that saves time where the layer is narrow may save none where it
    is wide, and then the dense layer is to be had for nothing. So costs are taken around the fastest candidate, and
    around one that is much like those looked for; the better of what the two lead to counts.

    Args:
        distortions: see `supernet.distortions`.
    """

    def __init__(self, feasible: FeasibleSet, distortions: Distortions) -> None:
        self._feasible = feasible
        self._distortions = _side_by_side(distortions, np.inf)
        self._distortions /= max(values.max() for values in distortions) or 1.0
        self._costs = [_Costs(feasible, feasible.fastest)]
        for _ in range(APPROACHES):
            self._costs[1:] = [_Costs(feasible, self.code(POWERS[0]))]

    def start(self, rng: np.random.Generator, seen: Container[Code]) -> Code | None:
        """A new candidate without noise, while there is one, then a drawn one; None where draws give nothing new."""
        for power in POWERS:
            if (code := self.code(power)) not in seen:
                return code
        draws = (self.draw(rng) for _ in range(TRIES))
        return next((code for code in draws if code not in seen), None)

    def draw(self, rng: np.random.Generator) -> Code:
        """A candidate for a power between 1 and 8, each distortion being off by a random factor."""
        power, spread = 2 ** rng.uniform(0, 3), rng.exponential(SPREAD)
        shape = self._distortions.shape
        return self.code(power, np.exp(spread * (rng.normal(size=(shape[0], 1)) + rng.normal(size=shape))))

    def code(self, power: float, factors: NDArray[np.float64] | None = None) -> Code:
        """The admitted candidate for a power. `factors` [sites, most choices of a site] multiply the distortions."""
        losses = (self._distortions if factors is None else self._distortions * factors) ** power
        found = [self._filled(self._within_budget(losses, costs), losses, costs) for costs in self._costs]
        return min(found, key=lambda code: float(losses[np.arange(len(code)), code].sum()))

    def _within_budget(self, losses: NDArray[np.float64], costs: _Costs) -> Code:
        """Choices cost more in the whole than their sum, or less. So what is allowed for the sum is corrected by what
        the whole took, a few times."""
        rows = np.arange(len(losses))
        best, least = costs.base, losses[rows, costs.base].sum()
        slack_ms = allowed_ms = self._feasible.slack_ms
        for _ in range(CORRECTIONS):
            code = costs.cheapest(losses, allowed_ms)
            if self._feasible.admits(code) and (loss := losses[rows, code].sum()) < least:
                best, least = code, loss
            taken_ms, sum_ms = costs.taken_ms(code), costs.sum_ms(code)
            if taken_ms <= 0 or (corrected_ms := sum_ms * slack_ms / taken_ms) == allowed_ms:
                break
            allowed_ms = corrected_ms
        return best

    def _filled(self, code: Code, losses: NDArray[np.float64], costs: _Costs) -> Code:
        """The code after one-site changes that lose less and still meet the budget, the best of them first."""
        rows, tries = np.arange(len(code)), FILLS
        while tries:
            taken_ms, sum_ms = costs.taken_ms(code), costs.sum_ms(code)
            more_ms = (costs.extra_ms - costs.extra_ms[rows, code][:, None]) * (taken_ms / sum_ms if sum_ms else 1.0)
            gains = losses[rows, code][:, None] - losses
            gains[more_ms > (1 + DOUBT) * (self._feasible.slack_ms - taken_ms)] = -np.inf
            for place in np.argsort(-gains, axis=None, kind="stable")[:tries]:
                site, index = divmod(int(place), gains.shape[1])
                if gains[site, index] <= 0:
                    return code
                tries -= 1
                if self._feasible.admits(changed := (*code[:site], index, *code[site + 1 :])):
                    code = changed
                    break
        return code


class _Costs:
    """What choices cost beside the other choices of an admitted code, the base; all in milliseconds."""

    def __init__(self, feasible: FeasibleSet, base: Code) -> None:
        self.base = base
        self.extra_ms = _side_by_side([np.array(extras) for extras in feasible.extras_ms(base)], 0.0)
        self._feasible = feasible
        self._dearest_ms = np.abs(self.extra_ms).max() or 1.0

    def taken_ms(self, code: Code) -> float:
        """What a code takes more than the fastest candidate."""
        return self._feasible.latency_ms(code) - self._feasible.latency_ms(self._feasible.fastest)

    def sum_ms(self, code: Code) -> float:
        """What it takes more than the fastest candidate, as far as the costs of its choices add up."""
        return self.taken_ms(self.base) + float(self.extra_ms[np.arange(len(code)), code].sum())

    def cheapest(self, losses: NDArray[np.float64], allowed_ms: float) -> Code:
        """The choice of every site at the lowest price at which `sum_ms` is so much at most."""
        low, high = PRICES
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if self.sum_ms(self._at(losses, middle)) <= allowed_ms:
                high = middle
            else:
                low = middle
        return self._at(losses, high)

    def _at(self, losses: NDArray[np.float64], price: float) -> Code:
        """`price` is ln(lambda)."""
        indices: list[int] = np.argmin(losses + np.exp(price) / self._dearest_ms * self.extra_ms, axis=1).tolist()
        return tuple(indices)


def log_norms(distortions: Distortions, codes: Sequence[Code]) -> NDArray[np.float64]:
    """ln of the p-norms of what the sites of each code distort, p being the `POWERS`: [codes, powers]."""
    indices = np.array(codes)
    values = np.stack([site[indices[:, i]] for i, site in enumerate(distortions)], axis=1)
    norms = np.stack([np.sum(values**power, axis=1) ** (1 / power) for power in POWERS], axis=1)
    return np.asarray(np.log(norms + NEGLIGIBLE))


def _side_by_side(values: Sequence[NDArray[np.float64]], rest: float) -> NDArray[np.float64]:
    """Arrays of any length as rows: [arrays, longest]."""
    rows = np.full((len(values), max(map(len, values))), rest)
    for row, found in zip(rows, values, strict=True):
        row[: len(found)] = found
    return rows
