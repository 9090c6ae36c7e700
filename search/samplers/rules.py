"""Baseline: schemes by rule, one rate for all sites."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from pruning.schemes.blocks import BlockScheme
from search.encoding import Code
from search.history import History
from search.samplers.base import CandidateSampler
from supernet import Choice

SLOWER = 0.2


class RulesSampler(CandidateSampler):
    """The rule-based mapping (Li et al. 2021, arXiv 2111.11581) on data where blocks do better than patterns.

    One operator is preferred at all sites, and one rate holds everywhere. At a site, the scheme is the one of the
    smallest blocks that costs at most a fifth more than the fastest scheme at that rate; what costs are counted from
    is the fastest candidate's choice. Sites that do not offer the operator have that of the largest candidate. Of each
    operator the lowest rate within the budget is proposed, in random order; then proposals are uniform feasible.
    """

    def propose(self, history: History, rng: np.random.Generator) -> Code | None:
        new = [code for code in self._mappings if code not in history.seen]
        return new[int(rng.integers(len(new)))] if new else self.feasible.draw(rng, history.seen)

    @cached_property
    def _mappings(self) -> tuple[Code, ...]:
        """One admitted code an operator, where there is one."""
        operators = dict.fromkeys(choice.operator for site in self.encoding.choices for choice in site)
        rates = sorted({choice.sparsity.rate for site in self.encoding.choices for choice in site})
        found = (next(filter(self.feasible.admits, self._by_rate(operator, rates)), None) for operator in operators)
        return tuple(dict.fromkeys(code for code in found if code is not None))

    def _by_rate(self, operator: str, rates: list[float]) -> Iterator[Code]:
        return (tuple(self._choose(site, operator, rate) for site in range(len(self.encoding.sizes))) for rate in rates)

    def _choose(self, site: int, operator: str, rate: float) -> int:
        """The choice of a site: the nearest rate that is offered, and the finest scheme that is fast enough."""
        choices, extra_ms = self.encoding.choices[site], self.feasible.extra_ms[site]
        usual = self.space.largest().choices[site].operator
        of_operator = [i for i, choice in enumerate(choices) if choice.operator == operator] or [
            i for i, choice in enumerate(choices) if choice.operator == usual
        ]
        distance = {i: abs(math.log(choices[i].sparsity.rate / rate)) for i in of_operator}
        nearest = [i for i in of_operator if distance[i] == min(distance.values())]
        limit = (1 + SLOWER) * min(extra_ms[i] for i in nearest)
        fast = [i for i in nearest if extra_ms[i] <= limit]
        return min(fast, key=lambda i: (_group_size(choices[i]), extra_ms[i]))


def _group_size(choice: Choice) -> float:
    """Weights in a block; infinite where a scheme has none."""
    scheme = choice.sparsity.scheme
    return scheme.height * scheme.width if isinstance(scheme, BlockScheme) else math.inf
