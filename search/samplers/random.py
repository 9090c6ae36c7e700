"""Baseline: uniform over the feasible candidates."""

from __future__ import annotations

import numpy as np

from search.encoding import Code
from search.history import History
from search.samplers.base import CandidateSampler


class RandomFeasibleSampler(CandidateSampler):
    """Every proposal is uniform over the candidates that meet the budget and have not been proposed."""

    def propose(self, history: History, rng: np.random.Generator) -> Code | None:
        return self.feasible.draw(rng, history.seen)
