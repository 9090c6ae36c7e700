"""Samplers by one word: npas and the baselines that it has to beat under the same filter."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from search.errors import UnknownSampler, UnknownSamplerOption
from search.feasible import LatencyFunction
from search.samplers.base import CandidateSampler
from search.samplers.bo_only import BOOnlySampler
from search.samplers.evolution import EvolutionSampler
from search.samplers.knapsack import KnapsackSampler
from search.samplers.local_search import LocalSearchSampler
from search.samplers.npas import NPASSampler
from search.samplers.q_only import QOnlySampler
from search.samplers.random import RandomFeasibleSampler
from search.samplers.rules import RulesSampler
from search.samplers.several_budgets import SeveralBudgets
from search.samplers.tpe import TPESampler
from supernet import ChoiceSpace

__all__ = [
    "BOOnlySampler",
    "CandidateSampler",
    "EvolutionSampler",
    "KnapsackSampler",
    "LocalSearchSampler",
    "NPASSampler",
    "QOnlySampler",
    "RandomFeasibleSampler",
    "RulesSampler",
    "SeveralBudgets",
    "TPESampler",
    "check_sampler",
    "make_sampler",
    "sampler_for",
    "sampler_names",
]

_SAMPLERS: dict[str, type[CandidateSampler]] = {
    "npas": NPASSampler,
    "random": RandomFeasibleSampler,
    "evolution": EvolutionSampler,
    "local_search": LocalSearchSampler,
    "tpe": TPESampler,
    "knapsack": KnapsackSampler,
    "rules": RulesSampler,
    "q_only": QOnlySampler,
    "bo_only": BOOnlySampler,
}


def sampler_names() -> tuple[str, ...]:
    """Names that `make_sampler` knows."""
    return tuple(_SAMPLERS)


def check_sampler(name: str, options: Mapping[str, Any]) -> None:
    """Whether there is such a sampler with such options, found out before there is a space.

    Raises:
        UnknownSampler: there is no sampler of that name.
        UnknownSamplerOption: it has no option of one of these names, or that of a setting that has a name of its own.
    """
    known = _keywords(_kind(name)) - {"seed", "trials"}
    if unknown := sorted(options.keys() - known):
        allowed = ", ".join(sorted(known)) or "none"
        raise UnknownSamplerOption(f"the sampler {name} has no option {', '.join(unknown)}. Allowed: {allowed}")


def _kind(name: str) -> type[CandidateSampler]:
    if name not in _SAMPLERS:
        raise UnknownSampler(f"there is no sampler {name!r}; choose one of {', '.join(sampler_names())}")
    return _SAMPLERS[name]


def _keywords(kind: type) -> set[str]:
    """Keyword arguments of a sampler, those of its base classes too."""
    parameters = (inspect.signature(base).parameters.values() for base in kind.__mro__ if base is not object)
    return {one.name for of_base in parameters for one in of_base if one.kind is one.KEYWORD_ONLY}


def make_sampler(
    name: str, space: ChoiceSpace, latency: LatencyFunction, budget_ms: float, **options: Any
) -> CandidateSampler:
    """The sampler called `name`; `options` are its keyword arguments (seed, trials, ...).

    Raises:
        UnknownSampler: there is no sampler of that name.
        InfeasibleBudget: no candidate meets the budget.
    """
    return _kind(name)(space, latency, budget_ms, **options)


def sampler_for(
    name: str,
    space: ChoiceSpace,
    latency: LatencyFunction,
    budgets_ms: Sequence[float],
    *,
    seed: int = 0,
    trials: int = 200,
    **options: Any,
) -> CandidateSampler:
    """The sampler called `name` for one budget or several; of several each has its share of the trials.

    Raises:
        UnknownSampler: there is no sampler of that name.
        InfeasibleBudget: no candidate meets one of the budgets.
    """
    if len(budgets_ms) == 1:
        return make_sampler(name, space, latency, budgets_ms[0], seed=seed, trials=trials, **options)
    share = -(-trials // len(budgets_ms))

    def make(budget_ms: float) -> CandidateSampler:
        return make_sampler(name, space, latency, budget_ms, seed=seed, trials=share, **options)

    return SeveralBudgets(space, latency, budgets_ms, make, seed=seed, trials=trials)
