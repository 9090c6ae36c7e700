from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pruning.schemes.blocks import BlockScheme
from search.history import History, Observation
from search.samplers import RulesSampler
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]
BUDGET_MS = 1.0


def _mapped(sampler: RulesSampler, operators: int) -> list[Candidate]:
    observations: list[Observation] = []
    for _ in range(operators):
        code = sampler.propose(History(tuple(observations)), np.random.default_rng(0))
        assert code is not None
        observations.append(Observation(code, 0.0))
    return [sampler.encoding.candidate(observation.code) for observation in observations]


def test_one_operator_and_one_rate_everywhere_and_no_lower_rate_fits(tiny: SearchSpace, latency: Function) -> None:
    sampler = RulesSampler(tiny, latency, BUDGET_MS)
    operator = "conv3x3"
    (mapped,) = [
        candidate
        for candidate in _mapped(sampler, 5)
        if {choice.operator for choice in candidate.choices} == {operator}
    ]
    (rate,) = {choice.sparsity.rate for choice in mapped.choices}
    assert rate > 1
    lower = [other for other in (1, 2, 2.5, 3, 5, 7, 10) if other < rate]
    for other in lower:
        code = tuple(sampler._choose(site, operator, other) for site in range(len(mapped.choices)))
        assert latency(sampler.encoding.candidate(code)) > BUDGET_MS


def test_blocks_are_the_smallest_that_are_fast_enough(tiny: SearchSpace, latency: Function) -> None:
    """Large blocks are the fastest, 32 weights are a little slower, 16 much."""
    slower = {"block_punched(32x1)": 0.1, "block_punched(8x4)": 0.1, "block_punched(16x1)": 0.6}

    def uneven(candidate: Candidate) -> float:
        added = (slower.get(str(choice.sparsity.scheme), 0.0) / choice.sparsity.rate for choice in candidate.choices)
        return latency(candidate) + sum(added)

    sampler, taken = RulesSampler(tiny, uneven, BUDGET_MS), set()
    for site, choices in enumerate(sampler.encoding.choices):
        extra_ms = sampler.feasible.extra_ms[site]
        rivals = [i for i, c in enumerate(choices) if c.operator == "conv3x3" and c.sparsity.rate == 5]
        fast = [i for i in rivals if extra_ms[i] <= 1.2 * min(extra_ms[j] for j in rivals)]
        blocks = [choices[i].sparsity.scheme for i in fast]
        sizes = [scheme.height * scheme.width for scheme in blocks if isinstance(scheme, BlockScheme)]
        chosen = choices[sampler._choose(site, "conv3x3", 5.0)].sparsity.scheme
        if sizes:
            assert isinstance(chosen, BlockScheme)
            assert chosen.height * chosen.width == min(sizes)
            taken.add(min(sizes))
    assert taken == {32}
