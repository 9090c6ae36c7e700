"""The sampler of npas: proposals by Q-learning and mutation, chosen among by a Gaussian process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.encoding import Code
from search.feasible import LatencyFunction
from search.history import History
from search.insight import Insight, forecasts, preferences
from search.pool import make_pool
from search.q_learning import Decisions, QLearning
from search.samplers.base import CandidateSampler
from search.surrogate import Surrogate
from supernet import ChoiceSpace

AGENT_SHARE = 0.5
"""Of the trials, at whose end the agent's epsilon is down to 0.1."""


class NPASSampler(CandidateSampler):
    """Sampler for operator, pruning scheme and rate of every site under a latency budget.

    After `startup` uniform feasible candidates, each proposal is the one of highest expected improvement in a pool
    of about 200 that come from an epsilon-greedy Q-learning agent, from mutations of the best, and uniformly. Where it
    is known how far each choice distorts the outputs, candidates of least distortion take the place of the uniform
    ones: in a space of 10^40 candidates hardly one that is drawn uniformly is of any use. As the agent's proposals are
    judged before they are evaluated, it has no random phase of its own after the startup, and its epsilon falls twice
    as fast as where it decides alone.
    The loop is that of NPAS (Li et al. 2021, arXiv 2012.00596) with its Bayesian predictor after NAS-BOWL
    (arXiv 2006.07556).

    Args:
        startup: number of candidates to begin with; a tenth of the trials, at least 10, by default.
        (others as for every `CandidateSampler`)
    """

    def __init__(
        self,
        space: ChoiceSpace,
        latency: LatencyFunction,
        budget_ms: float,
        *,
        startup: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(space, latency, budget_ms, **options)
        self.startup = max(10, self.trials // 10) if startup is None else startup
        decisions = Decisions(self.encoding.choices, self.feasible.extra_ms, self.feasible.slack_ms)
        self._agent = QLearning(
            decisions, seed=self.seed, trials=round(AGENT_SHARE * self.trials), random_phase=self.startup
        )
        self._surrogate = Surrogate(space, None if self.distortions is None else self.distortions())

    def propose(self, history: History, rng: np.random.Generator) -> Code | None:
        if len(history) < self.startup or not history.observations:
            return self.first(history, rng)
        pool = self._pool(history, rng)
        if not pool:
            return self.feasible.draw(rng, history.seen)
        return pool[int(np.argmax(self._worths(history, pool, rng)))]

    def _pool(self, history: History, rng: np.random.Generator) -> list[Code]:
        by_rule = None if self.rule is None else partial(self.rule.draw, rng)
        return make_pool(self.feasible, history, self._proposer(history, rng), rng, by_rule)

    def _worths(self, history: History, pool: list[Code], rng: np.random.Generator) -> NDArray[np.float64]:
        """What the evaluation of each code of the pool promises."""
        return self._surrogate.log_expected_improvement(history, pool)

    def insight(self, history: History) -> Insight:
        learned = forecasts(self._surrogate, history.evaluated, self.startup)
        return Insight(preferences(self._agent.table(history.observations), self.encoding), learned)

    def _proposer(self, history: History, rng: np.random.Generator) -> Callable[[], Code] | None:
        """Proposals beside mutations and uniform ones, if there are any."""
        table, epsilon = self._agent.table(history.observations), self._agent.epsilon(len(history.observations))
        return lambda: table.propose(rng, epsilon)
