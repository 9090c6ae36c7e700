"""Half of npas's sampler: the Q-learning agent without the surrogate."""

from __future__ import annotations

from typing import Any

import numpy as np

from search.encoding import Code
from search.feasible import LatencyFunction
from search.history import History
from search.insight import Insight, preferences
from search.q_learning import Decisions, QLearning
from search.samplers.base import CandidateSampler
from supernet import SearchSpace

TRIES = 100


class QOnlySampler(CandidateSampler):
    """What the epsilon-greedy agent proposes is evaluated, as in MetaQNN (Baker et al. 2017, arXiv 1611.02167).

    In the random phase, and when 100 proposals give nothing that is new and admitted, the proposal is uniform feasible.
    """

    def __init__(self, space: SearchSpace, latency: LatencyFunction, budget_ms: float, **options: Any) -> None:
        super().__init__(space, latency, budget_ms, **options)
        decisions = Decisions(self.encoding.choices, self.feasible.extra_ms, self.feasible.slack_ms)
        self._agent = QLearning(decisions, seed=self.seed, trials=self.trials)

    def insight(self, history: History) -> Insight:
        return Insight(preferences(self._agent.table(history.observations), self.encoding))

    def propose(self, history: History, rng: np.random.Generator) -> Code | None:
        count = len(history.observations)
        if count >= self._agent.random_phase:
            table, epsilon = self._agent.table(history.observations), self._agent.epsilon(count)
            for _ in range(TRIES):
                code = table.propose(rng, epsilon)
                if code not in history.seen and self.feasible.admits(code):
                    return code
        return self.feasible.draw(rng, history.seen)
