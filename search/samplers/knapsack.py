"""Baseline: choices that each have a worth of their own, and the knapsack of worth against latency."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import BayesianRidge

from pruning.errors import BudgetTooSmall
from pruning.knapsack import Option, select
from search.encoding import Code
from search.history import History
from search.samplers.base import CandidateSampler

TRIES = 10
CORRECTIONS = 5


class KnapsackSampler(CandidateSampler):
    """Worths of single choices are fitted to the evaluations; the best selection within the budget is evaluated next.

    Bayesian ridge regression (MacKay 1992) on which choice each site has. Every proposal draws the worths from their
    posterior once, so that proposals differ as much as the worths are uncertain (Thompson 1933), and solves the
    multiple-choice knapsack (as HALP does, Shen et al. 2022, arXiv 2110.10811) with what each choice adds to the
    fastest candidate's latency. Where the whole is slower than the sum of its parts, less is allowed for the parts.

    A tenth of the trials, at least 10, come before that: candidates of least distortion if distortions are known, or
    uniform feasible ones. The next is uniform, too, where 10 draws give nothing new.
    """

    def propose(self, history: History, rng: np.random.Generator) -> Code | None:
        if len(history) < max(10, self.trials // 10):
            return self.first(history, rng)
        if history.observations:
            rows = self._indicators([observation.code for observation in history.observations])
            model = BayesianRidge().fit(rows, [observation.reward for observation in history.observations])
            root = _root(model.sigma_)
            for _ in range(TRIES):
                code = self._selected(model.coef_ + root @ rng.standard_normal(len(root)))
                if code is not None and code not in history.seen:
                    return code
        return self.feasible.draw(rng, history.seen)

    def _indicators(self, codes: list[Code]) -> NDArray[np.float64]:
        """Which choice each site has: [codes, all choices of all sites]."""
        indices = np.array(codes)
        return np.concatenate([np.eye(size)[indices[:, site]] for site, size in enumerate(self.encoding.sizes)], axis=1)

    def _selected(self, worth: NDArray[np.float64]) -> Code | None:
        """The admitted code of the highest sum of worths, or None where parts say too little of the whole."""
        ends = np.cumsum(self.encoding.sizes)
        alternatives = [
            [[Option(-value, ms) for value, ms in zip(values.tolist(), extras, strict=True)]]
            for values, extras in zip(np.split(worth, ends[:-1]), self.feasible.extra_ms, strict=True)
        ]
        allowed_ms = self.feasible.slack_ms
        for _ in range(CORRECTIONS):
            try:
                picks = select([[only] for only in alternatives], allowed_ms).picks
            except BudgetTooSmall:
                return None
            code = tuple(pick.options[0] for pick in picks)
            over_ms = self.feasible.latency_ms(code) - self.feasible.budget_ms
            if over_ms <= 0:
                return code
            allowed_ms -= over_ms
        return None


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """R with R R^T = covariance; rounding may have made small eigenvalues negative."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
