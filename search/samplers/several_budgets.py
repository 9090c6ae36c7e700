"""Several latency budgets in one study."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from search.encoding import Code
from search.feasible import LatencyFunction
from search.history import History
from search.insight import Insight
from search.samplers.base import CandidateSampler
from supernet import ChoiceSpace

MakeSampler = Callable[[float], CandidateSampler]


class SeveralBudgets(CandidateSampler):
    """A sampler a budget, which take turns.

    Each sees the evaluations under its budget as its own, whoever proposed them; a surrogate learns from all. None of
    them proposes what another one has.

    Args:
        budgets_ms: in milliseconds, at least one.
        make: the sampler of one budget.
        (others as for every `CandidateSampler`)
    """

    def __init__(
        self,
        space: ChoiceSpace,
        latency: LatencyFunction,
        budgets_ms: Sequence[float],
        make: MakeSampler,
        *,
        seed: int = 0,
        trials: int = 200,
    ) -> None:
        super().__init__(space, latency, max(budgets_ms), seed=seed, trials=trials)
        self.samplers = tuple(make(budget_ms) for budget_ms in sorted(budgets_ms, reverse=True))

    def insight(self, history: History) -> Insight:
        """That of the largest budget's sampler."""
        return self.samplers[0].insight(history.under(self.samplers[0].feasible.admits))

    @property
    def rejected(self) -> int:
        """As every sampler counts them under its own budget."""
        return sum(sampler.rejected for sampler in self.samplers)

    def propose(self, history: History, rng: np.random.Generator) -> Code | None:
        first = len(history) % len(self.samplers)
        turns = (*self.samplers[first:], *self.samplers[:first])
        codes = (sampler.propose(history.under(sampler.feasible.admits), rng) for sampler in turns)
        return next((code for code in codes if code is not None), None)
