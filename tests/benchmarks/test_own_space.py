"""What is made of the searches on a space of our own."""

import pandas as pd
import pytest

from benchmarks.own_space import METHODS, OPTIONS, found, paired
from search import sampler_names


def test_every_method_is_a_sampler_or_says_which_it_is() -> None:
    assert {OPTIONS.get(method, {"sampler": method})["sampler"] for method in METHODS} == set(sampler_names())


def test_the_best_at_a_checkpoint_is_the_last_one_where_the_space_ran_out() -> None:
    assert found(pd.Series([50.0, 60.0, 60.0, 70.0], index=[7, 8, 11, 12]), (1, 3, 10)) == {1: 50.0, 3: 60.0, 10: 70.0}


def test_methods_are_compared_on_the_same_seed() -> None:
    accuracy = {("npas", 0): 90.0, ("npas", 1): 80.0, ("npas", 2): 70.0}
    accuracy |= {("random", 0): 88.0, ("random", 1): 80.0, ("random", 2): 71.0}
    rows = [
        {"budget": "50%", "evaluations": 25, "method": method, "seed": seed, "accuracy": value}
        for (method, seed), value in accuracy.items()
    ]
    table = paired(pd.DataFrame(rows)).set_index("method")
    assert table.loc["npas", ["accuracy", "behind", "more", "same", "less"]].tolist() == [80, 0, 0, 3, 0]
    random = table.loc["random"]
    assert random["behind"] == pytest.approx((2 + 0 - 1) / 3)
    assert random["behind_error"] == pytest.approx(pd.Series([2.0, 0.0, -1.0]).sem())
    assert random[["more", "same", "less", "seeds"]].tolist() == [1, 1, 1, 3]
