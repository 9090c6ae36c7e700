"""Baseline: first-improvement local search over the feasible candidates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from search.encoding import Code
from search.history import History, Observation
from search.samplers.base import CandidateSampler

STARTS = 10


class LocalSearchSampler(CandidateSampler):
    """Climbs from the best of 10 random candidates (White et al. 2021, arXiv 2005.02960).

    One-site neighbours are tried in random order; the first that is better becomes the new centre. Where no
    neighbour is left, it starts again from 10 random candidates. Where it stands is read off the history.
    """

    def propose(self, history: History, rng: np.random.Generator) -> Code | None:
        centre, neighbours = self._climb(history)
        if centre is None:
            return self.feasible.draw(rng, history.seen)
        return next(neighbours, None) or self.feasible.draw(rng, history.seen)

    def _climb(self, history: History) -> tuple[Observation | None, Iterator[Code]]:
        """The centre now, or None while starts are being drawn, and what is left to try around it."""
        centre: Observation | None = None
        starts: list[Observation] = []
        left: list[Code] = []
        seen = set(history.pending)
        for observation in history.observations:
            if centre is not None and not any(self._open(code, seen) for code in left):
                centre, starts = None, []
            seen.add(observation.code)
            if centre is None:
                starts.append(observation)
                if len(starts) < STARTS:
                    continue
                best = max(starts, key=lambda o: o.reward)
            else:
                best = observation if observation.reward > centre.reward else centre
            if best is not centre:
                centre, left = best, self._shuffled_neighbours(best.code)
        return centre, (code for code in left if self._open(code, seen))

    def _open(self, code: Code, seen: set[Code]) -> bool:
        return code not in seen and self.feasible.admits(code)

    def _shuffled_neighbours(self, code: Code) -> list[Code]:
        neighbours = list(self.encoding.neighbours(code))
        order = np.random.default_rng([self.seed, *code]).permutation(len(neighbours))
        return [neighbours[index] for index in order]
