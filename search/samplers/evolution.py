"""Baseline: regularised evolution (Real et al. 2019, arXiv 1802.01548) over the feasible candidates."""

from __future__ import annotations

import numpy as np

from search.encoding import Code
from search.history import History
from search.samplers.base import CandidateSampler

TOURNAMENT = 10
TRIES = 100


class EvolutionSampler(CandidateSampler):
    """The population is the last 50 observations (20 in searches of up to 100): the oldest dies.

    A child is a one- or two-site mutation of the best of 10 random members. Until the population is full, and when
    100 mutations give nothing that is new and admitted, the proposal is uniform feasible.
    """

    def propose(self, history: History, rng: np.random.Generator) -> Code | None:
        size = 20 if self.trials <= 100 else 50
        population = history.observations[-size:]
        if len(history) < size or not population:
            return self.feasible.draw(rng, history.seen)
        for _ in range(TRIES):
            members = rng.choice(len(population), size=min(TOURNAMENT, len(population)), replace=False)
            parent = max((population[member] for member in members), key=lambda observation: observation.reward)
            child = self.encoding.mutate(parent.code, rng, sites=int(rng.integers(1, 3)))
            if child not in history.seen and self.feasible.admits(child):
                return child
        return self.feasible.draw(rng, history.seen)
