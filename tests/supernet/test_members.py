import math
from collections import Counter

import numpy as np
import pytest

from supernet import SearchSpace
from supernet.members import Members


def test_operators_are_uniform_and_rates_fall_with_their_root(tiny: SearchSpace) -> None:
    members, rng = Members(tiny, math.inf), np.random.default_rng(0)
    count = 6000
    drawn = [members.sample(rng).choices[3] for _ in range(count)]
    operators = Counter(choice.operator for choice in drawn)
    assert len(operators) == 6
    for hits in operators.values():
        assert abs(hits / count - 1 / 6) < 5 * math.sqrt(1 / 6 * 5 / 6 / count)
    rates = Counter(
        choice.sparsity.rate
        for choice in drawn
        if choice.operator == "conv3x3" and str(choice.sparsity.scheme) == "block_punched(16x1)"
    )
    total = sum(rates.values())
    weight = {rate: rate**-0.5 for rate in (2, 2.5, 3, 5, 7, 10)}
    for rate, share in weight.items():
        expected = share / sum(weight.values())
        assert abs(rates[rate] / total - expected) < 5 * math.sqrt(expected / total)


@pytest.mark.parametrize("max_rate", [1.0, 3.0, math.inf])
def test_no_random_member_is_above_the_highest_rate(tiny: SearchSpace, max_rate: float) -> None:
    members, rng = Members(tiny, max_rate), np.random.default_rng(0)
    assert (members.largest, members.smallest) == (tiny.largest(), tiny.smallest())
    for candidate in (members.sample(rng) for _ in range(100)):
        tiny.validate(candidate)
        assert all(choice.sparsity.rate <= max_rate for choice in candidate.choices)
