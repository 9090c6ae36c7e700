"""Elimination finds what trying everything finds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.elimination import Factor, minimise


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=7),
    scopes=st.lists(st.sets(st.integers(0, 6), min_size=1, max_size=3), max_size=9),
    seed=st.integers(0, 10_000),
)
def test_minimum_is_that_of_all_assignments(sizes: list[int], scopes: list[set[int]], seed: int) -> None:
    generator = np.random.default_rng(seed)
    names = [f"v{index}" for index in range(len(sizes))]
    factors = []
    for scope in scopes:
        variables = [index for index in scope if index < len(sizes)]
        generator.shuffle(variables)
        if variables:
            table = generator.integers(0, 50, [sizes[index] for index in variables]).astype(float)
            table[generator.random(table.shape) < 0.1] = np.inf
            factors.append(Factor(tuple(names[index] for index in variables), table))

    def total(values: dict[str, int]) -> float:
        return sum(float(factor.table[tuple(values[name] for name in factor.variables)]) for factor in factors)

    found = minimise(factors, dict(zip(names, sizes, strict=True)))
    everything = itertools.product(*map(range, sizes))
    assert total(found) == min(total(dict(zip(names, values, strict=True))) for values in everything)


def test_a_long_chain_is_no_effort() -> None:
    names = [f"t{index}" for index in range(300)]
    differ = Factor(("a", "b"), np.array([[1.0, 0.0], [0.0, 1.0]]))
    factors = [Factor(pair, differ.table) for pair in itertools.pairwise(names)]
    factors.append(Factor(("t0",), np.array([5.0, 0.0])))
    found = minimise(factors, dict.fromkeys(names, 2))
    assert [found[name] for name in names] == [1 - index % 2 for index in range(300)]


def test_no_variables_is_no_assignment() -> None:
    assert minimise([], {}) == {}


def test_a_variable_without_factors_is_free() -> None:
    assert minimise([Factor(("a",), np.array([2.0, 1.0]))], {"a": 2, "b": 3}) == {"a": 1, "b": 0}


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_axes_belong_to_the_variables_in_their_order(order: tuple[str, str]) -> None:
    table = np.array([[3.0, 2.0, 0.0], [1.0, 4.0, 5.0]])
    factor = Factor(order, table if order == ("a", "b") else table.T)
    assert minimise([factor], {"a": 2, "b": 3}) == {"a": 0, "b": 2}
