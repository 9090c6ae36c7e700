"""What every sampler must do, whatever its method."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import optuna
import pytest

from search import CandidateSampler, make_sampler, sampler_names
from search.encoding import Code
from search.errors import FeasibleSetExhausted, InfeasibleBudget, UnknownSampler
from search.history import History, Observation
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]
Objective = Callable[[optuna.Trial], float]

each_sampler = pytest.mark.parametrize("name", sampler_names())


def _objective(sampler: CandidateSampler, accuracy: Function) -> Objective:
    return lambda trial: accuracy(sampler.suggest(trial))


def _codes(study: optuna.Study, sampler: CandidateSampler) -> list[Code | None]:
    return [sampler.encoding.from_params(trial.params) for trial in study.trials]


def _optimised(sampler: CandidateSampler, accuracy: Function, trials: int) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(_objective(sampler, accuracy), n_trials=trials)
    return study


@each_sampler
def test_proposals_in_plain_optuna_are_feasible_and_new(
    name: str, tiny: SearchSpace, latency: Function, accuracy: Function
) -> None:
    sampler = make_sampler(name, tiny, latency, 2.0, seed=1, trials=20)
    study = _optimised(sampler, accuracy, 20)
    codes = _codes(study, sampler)
    assert len(set(codes)) == 20
    assert all(latency(tiny.decode(code)) <= 2.0 for code in codes if code is not None)


@each_sampler
def test_same_history_and_seed_give_the_same_proposal(
    name: str, tiny: SearchSpace, latency: Function, accuracy: Function
) -> None:
    """A sampler that has lived through the history, and one that reads it, agree; another seed does not."""
    old = make_sampler(name, tiny, latency, 2.0, seed=1, trials=30)
    study = _optimised(old, accuracy, 17)
    observations = tuple(
        Observation(code, trial.value or 0.0)
        for code, trial in zip(_codes(study, old), study.trials, strict=True)
        if code
    )
    new = make_sampler(name, tiny, latency, 2.0, seed=1, trials=30)
    for end in (17, 3, 13):
        history = History(observations[:end])
        proposals = [sampler.propose(history, np.random.default_rng([1, end])) for sampler in (old, new)]
        assert proposals[0] == proposals[1]
    other = make_sampler(name, tiny, latency, 2.0, seed=2, trials=30)
    assert _codes(_optimised(other, accuracy, 5), other) != _codes(study, old)[:5]


@each_sampler
def test_exhausted_feasible_set_ends_the_study(
    name: str, toy: SearchSpace, latency: Function, accuracy: Function
) -> None:
    budget_ms = 0.45
    everything = map(toy.decode, itertools.product(range(6), repeat=3))
    feasible = {toy.encode(candidate) for candidate in everything if latency(candidate) <= budget_ms}
    assert 10 < len(feasible) < 60
    sampler = make_sampler(name, toy, latency, budget_ms, trials=200)
    study = _optimised(sampler, accuracy, 200)
    codes = _codes(study, sampler)
    assert len(codes) == len(feasible)
    assert set(codes) == feasible
    with pytest.raises(FeasibleSetExhausted, match=f"all {len(feasible)} candidates"):
        study.ask(dict(sampler.distributions()))


@each_sampler
def test_parallel_trials_get_different_candidates(
    name: str, tiny: SearchSpace, latency: Function, accuracy: Function
) -> None:
    sampler = make_sampler(name, tiny, latency, 2.0, trials=40)
    study = _optimised(sampler, accuracy, 22)
    for _ in range(6):
        study.ask(dict(sampler.distributions()))
    parallel = {tuple(trial.system_attrs["npas:proposal"]) for trial in study.trials}
    assert len(parallel) == 28


@each_sampler
def test_threads_never_share_a_candidate(name: str, tiny: SearchSpace, latency: Function, accuracy: Function) -> None:
    sampler = make_sampler(name, tiny, latency, 2.0, trials=16)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(_objective(sampler, accuracy), n_trials=16, n_jobs=3)
    assert len(set(_codes(study, sampler))) == 16


@each_sampler
def test_minimising_the_error_is_the_same_as_maximising_the_accuracy(
    name: str, tiny: SearchSpace, latency: Function, accuracy: Function
) -> None:
    sampler = make_sampler(name, tiny, latency, 2.0, seed=3, trials=30)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    study.optimize(lambda trial: -accuracy(sampler.suggest(trial)), n_trials=15)
    assert _codes(study, sampler) == _codes(_optimised(sampler, accuracy, 15), sampler)


@each_sampler
def test_budget_below_the_fastest_is_refused_before_anything_is_spent(
    name: str, toy: SearchSpace, latency: Function
) -> None:
    with pytest.raises(InfeasibleBudget, match=r"0\.22 ms"):
        make_sampler(name, toy, latency, 0.2)


def test_parameters_that_are_no_site_are_sampled_too(toy: SearchSpace, latency: Function) -> None:
    sampler = make_sampler("random", toy, latency, 1.0)
    values = []
    for _ in range(2):
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + len(sampler.suggest(trial).choices), n_trials=4)
        values.append([trial.params["x"] for trial in study.trials])
    assert values[0] == values[1]
    assert len(set(values[0])) == 4


def test_unknown_name_lists_the_known_ones(toy: SearchSpace, latency: Function) -> None:
    with pytest.raises(UnknownSampler, match="npas, random, evolution, local_search, tpe"):
        make_sampler("annealing", toy, latency, 1.0)
