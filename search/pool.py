"""The candidates among which the surrogate chooses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from search.encoding import Code
from search.feasible import FeasibleSet
from search.history import History

POOL = 200
Q_SHARE = 0.40
MUTATION_SHARE = 0.35
RULE_SHARE = 0.05
PARENTS = 10
TRIES_PER_MEMBER = 3


class Pool:
    """New admitted codes without repeats, from several sources that each fill a share."""

    def __init__(self, feasible: FeasibleSet, history: History) -> None:
        self._feasible = feasible
        self._seen = history.seen
        self.codes: dict[Code, None] = {}

    def fill(self, source: Callable[[], Code], count: int) -> None:
        """Take up to `count` codes from a source; one that repeats itself, or is too slow, gives fewer."""
        wanted = len(self.codes) + count
        for _ in range(TRIES_PER_MEMBER * count):
            if len(self.codes) >= wanted:
                return
            code = source()
            if code not in self._seen and code not in self.codes and self._feasible.admits(code):
                self.codes[code] = None


def make_pool(
    feasible: FeasibleSet,
    history: History,
    propose: Callable[[], Code] | None,
    rng: np.random.Generator,
    by_rule: Callable[[], Code] | None = None,
) -> list[Code]:
    """About 200 codes: 40 % from the proposer, 35 % one- and two-site mutations of the best ten, the rest uniform.

    Without a proposer its share are mutations too. With candidates by a rule, 5 % are such, none is uniform, and the
    rest are mutations.
    """
    pool = Pool(feasible, history)
    parents = history.ranked[:PARENTS]

    def mutation() -> Code:
        parent = parents[int(rng.integers(len(parents)))]
        return feasible.encoding.mutate(parent.code, rng, sites=int(rng.integers(1, 3)))

    pool.fill(propose or mutation, round(Q_SHARE * POOL))
    pool.fill(mutation, round(MUTATION_SHARE * POOL))
    if by_rule is not None:
        pool.fill(by_rule, round(RULE_SHARE * POOL))
        pool.fill(mutation, POOL - len(pool.codes))
    else:
        pool.fill(lambda: feasible.encoding.draw(rng), POOL - len(pool.codes))
    return list(pool.codes)
