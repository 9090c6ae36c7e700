"""Half of npas's sampler: the surrogate without the Q-learning agent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from search.encoding import Code
from search.history import History
from search.insight import Insight, forecasts
from search.samplers.npas import NPASSampler


class BOOnlySampler(NPASSampler):
    """As `NPASSampler`, but mutations of the best take the place of the agent's proposals in the pool."""

    def insight(self, history: History) -> Insight:
        return Insight(forecasts=forecasts(self._surrogate, history.evaluated, self.startup))

    def _proposer(self, history: History, rng: np.random.Generator) -> Callable[[], Code] | None:
        return None
