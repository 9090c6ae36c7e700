from __future__ import annotations

from collections.abc import Callable

import numpy as np
import optuna
import pytest

from search import make_sampler
from search.errors import InfeasibleBudget
from search.history import History, Observation
from search.samplers import CandidateSampler, SeveralBudgets
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]
BUDGETS_MS = (2.0, 0.6, 1.0)


def _sampler(name: str, space: SearchSpace, latency: Function, *, seed: int = 0, trials: int = 15) -> SeveralBudgets:
    def one(budget_ms: float) -> CandidateSampler:
        return make_sampler(name, space, latency, budget_ms, seed=seed, trials=trials)

    return SeveralBudgets(space, latency, BUDGETS_MS, one, seed=seed, trials=trials)


def _searched(sampler: CandidateSampler, accuracy: Function, trials: int) -> list[Candidate]:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: accuracy(sampler.suggest(trial)), n_trials=trials)
    codes = [sampler.encoding.from_params(trial.params) for trial in study.trials]
    return [sampler.encoding.candidate(code) for code in codes if code is not None]


@pytest.mark.parametrize("name", ["npas", "evolution", "tpe"])
def test_budgets_take_turns_and_nothing_repeats(
    name: str, tiny: SearchSpace, latency: Function, accuracy: Function
) -> None:
    found = _searched(_sampler(name, tiny, latency), accuracy, 15)
    assert len(set(found)) == 15
    for turn, budget_ms in enumerate(sorted(BUDGETS_MS, reverse=True)):
        assert all(latency(candidate) <= budget_ms for candidate in found[turn::3])


def test_each_budget_sees_what_others_found_under_it(tiny: SearchSpace, latency: Function) -> None:
    sampler = _sampler("random", tiny, latency)
    rng = np.random.default_rng(0)
    codes = [sampler.samplers[turn].feasible.draw(rng, ()) for turn in (0, 1, 2)]
    history = History(tuple(Observation(code, 1.0) for code in codes if code is not None))
    for one in sampler.samplers:
        seen = history.under(one.feasible.admits)
        assert {o.code for o in seen.observations} == {c for c in codes if c and one.feasible.admits(c)}
        assert seen.evaluated == history.evaluated
        assert seen.seen == history.seen


def test_surrogate_learns_from_candidates_over_the_budget(tiny: SearchSpace, latency: Function) -> None:
    """With and without them the choice differs, and it is under the budget all the same."""
    sampler = make_sampler("bo_only", tiny, latency, 0.6, trials=30)
    rng, wide = np.random.default_rng(1), make_sampler("random", tiny, latency, 3.0)
    draws = [code for code in (wide.feasible.draw(rng, ()) for _ in range(60)) if code is not None]
    draws += [code for code in (sampler.feasible.draw(rng, ()) for _ in range(12)) if code is not None]
    everything = History(tuple(Observation(code, float(sum(code))) for code in dict.fromkeys(draws)))
    seen = everything.under(sampler.feasible.admits)
    alone = History(seen.observations)
    assert len(alone) >= 10
    choices = [sampler.propose(history, np.random.default_rng(2)) for history in (seen, alone)]
    assert choices[0] != choices[1]
    assert all(code is not None and sampler.feasible.admits(code) for code in choices)


def test_the_lowest_budget_is_checked_too(tiny: SearchSpace, latency: Function) -> None:
    with pytest.raises(InfeasibleBudget):
        SeveralBudgets(tiny, latency, (2.0, 0.01), lambda ms: make_sampler("random", tiny, latency, ms))
