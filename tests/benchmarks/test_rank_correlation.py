from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import spearmanr

from benchmarks.rank_correlation import cheapest, correlations, spread_candidates
from supernet import SearchSpace, make_space


@pytest.fixture(scope="module")
def tiny() -> SearchSpace:
    path = Path(__file__).parents[2] / "conf" / "space" / "tiny.yaml"
    return make_space(yaml.safe_load(path.read_text()), (1, 32, 32), 10)


def test_candidates_are_distinct_legal_and_spread_over_the_rates(tiny: SearchSpace) -> None:
    candidates = spread_candidates(tiny, 24)
    assert len(set(candidates)) == 24
    for candidate in candidates:
        tiny.validate(candidate)
    rates = [np.mean([np.log(choice.sparsity.rate) for choice in candidate.choices]) for candidate in candidates]
    assert min(rates) == 0
    assert max(rates) > np.log(2.5)
    assert spread_candidates(tiny, 24) == candidates


def test_correlations_and_the_cheapest_cost_that_reaches_the_bar() -> None:
    rng = np.random.default_rng(0)
    full = rng.normal(size=30)
    table = pd.DataFrame({"full": full})
    for k, noise in ((0, 5.0), (10, 0.2), (30, 0.0)):
        table[f"fast_{k}"] = full + noise * rng.normal(size=30)
        table[f"seconds_{k}"] = 1.0 + k
    found = correlations(table, [0, 10, 30]).set_index("steps")
    assert found.loc[30, ["spearman", "kendall", "low", "high"]].tolist() == pytest.approx([1, 1, 1, 1])
    assert found.loc[10, "spearman"] == pytest.approx(spearmanr(table["fast_10"], full).statistic)
    assert found.loc[0, "low"] < found.loc[0, "spearman"] < found.loc[0, "high"] < 0.9
    assert cheapest(found.reset_index()) == 10
    assert cheapest(found.reset_index().query("steps == 0")) is None
