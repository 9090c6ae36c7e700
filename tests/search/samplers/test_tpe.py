from __future__ import annotations

import itertools
from collections.abc import Callable

from search.samplers import TPESampler
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]


def test_candidates_over_the_budget_are_told_as_violating_it(toy: SearchSpace, latency: Function) -> None:
    sampler = TPESampler(toy, latency, 1.5)
    codes = list(itertools.product(range(6), repeat=3))
    violating = {code for code in codes if sampler._trial(code, 0.0).constraints["latency"] > 0}
    assert violating == {code for code in codes if latency(toy.decode(code)) > 1.5}
    assert 0 < len(violating) < len(codes)
