"""The sub-networks that one training step updates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from pruning import Scheme
from supernet.candidate import Candidate, Choice
from supernet.space import SearchSpace


class Members:
    """Largest and smallest candidate, and random ones with no rate above `max_rate`.

    The smallest has its rates from the first step on; with lower ones it would be another network. Random ones take
    operator and scheme uniformly among those that are legal, and the rate r with probability proportional to r^-1/2.
    """

    def __init__(self, space: SearchSpace, max_rate: float) -> None:
        self.largest = space.largest()
        self.smallest = space.smallest()
        self._menus = []
        for site in range(len(space.sites)):
            choices = [choice for choice in space.choices(site) if choice.sparsity.rate <= max_rate]
            self._menus.append((choices, np.cumsum(_probabilities(choices))))

    def sample(self, rng: np.random.Generator) -> Candidate:
        """A random member."""
        draws = rng.random(len(self._menus))
        return Candidate(
            tuple(
                choices[min(int(np.searchsorted(cumulative, draw, side="right")), len(choices) - 1)]
                for (choices, cumulative), draw in zip(self._menus, draws, strict=True)
            )
        )


def _probabilities(choices: Sequence[Choice]) -> list[float]:
    rates: defaultdict[str, defaultdict[Scheme, float]] = defaultdict(lambda: defaultdict(float))
    for choice in choices:
        rates[choice.operator][choice.sparsity.scheme] += choice.sparsity.rate**-0.5
    probabilities = []
    for choice in choices:
        schemes = rates[choice.operator]
        share = choice.sparsity.rate**-0.5 / schemes[choice.sparsity.scheme]
        probabilities.append(share / len(schemes) / len(rates))
    return probabilities
