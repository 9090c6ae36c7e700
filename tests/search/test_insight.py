from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from search import make_sampler, sampler_names
from search.history import History, Observation
from search.insight import Insight, forecasts
from search.samplers import CandidateSampler
from search.surrogate import Surrogate
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]


def _history(sampler: CandidateSampler, worth: Function, count: int) -> History:
    rng, found = np.random.default_rng(0), dict[tuple[int, ...], Observation]()
    while len(found) < count:
        code = sampler.feasible.draw(rng, found)
        assert code is not None
        found[code] = Observation(code, worth(sampler.encoding.candidate(code)))
    return History(tuple(found.values()))


def test_table_prefers_the_operator_that_was_worth_more(toy: SearchSpace, latency: Function) -> None:
    sampler = make_sampler("npas", toy, latency, 5.0, trials=100)
    history = _history(sampler, lambda c: 90.0 + sum(choice.operator == "conv1x1" for choice in c.choices), 60)
    preferred = sampler.insight(history).preferences
    assert preferred is not None
    assert list(preferred["site"]) == list(toy.site_names)
    assert all(choice.startswith("conv1x1") for choice in preferred["choice"])
    assert (preferred["runner_up"] == "conv3x3").all()
    assert (preferred["value"] > preferred["runner_up_value"]).all()


def test_forecasts_are_those_made_before_the_evaluation(
    tiny: SearchSpace, latency: Function, accuracy: Function
) -> None:
    sampler = make_sampler("bo_only", tiny, latency, 3.0, trials=60)
    history = _history(sampler, accuracy, 40)
    whole = sampler.insight(history).forecasts
    assert whole is not None
    assert list(whole["number"]) == list(range(10, 40))
    shorter = forecasts(Surrogate(tiny), history.observations[:25], 10)
    assert shorter is not None
    assert whole["predicted"][:15].tolist() == pytest.approx(shorter["predicted"].tolist())
    insight = Insight(forecasts=whole)
    assert insight.rank_correlation > 0.3
    assert 60 <= insight.coverage <= 100


def test_nothing_is_said_where_nothing_was_learned(tiny: SearchSpace, latency: Function) -> None:
    for name in sampler_names():
        sampler = make_sampler(name, tiny, latency, 3.0, trials=60)
        insight = sampler.insight(_history(sampler, lambda _: 90.0, 3))
        assert insight.preferences is None
        assert insight.forecasts is None
        assert np.isnan(insight.coverage)
        assert np.isnan(insight.rank_correlation)
