"""The search: operator, pruning scheme and rate of every site, together, under a latency budget.

Names are imported on first use: a budget or a Pareto front should not wait for the Gaussian process libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.allocation import Allocation, allocate
    from search.budget import Budget, Budgets
    from search.driver import Search
    from search.errors import SearchError
    from search.evaluator import SupernetEvaluator
    from search.lowering import kernel_specs, timed_specs
    from search.objective import reward
    from search.pareto import hypervolume, pareto_front
    from search.pruned_fit import fit_pruned
    from search.result import Evaluation, SearchResult, Winner
    from search.run import check_budget, prepare_search, run_search
    from search.samplers import CandidateSampler, NPASSampler, make_sampler, sampler_names
    from search.tournament import Bracket, Entrant, Tournament, TournamentResult
    from search.variants import Menu, Variants

_HOMES = {
    "allocation": ("Allocation", "allocate"),
    "budget": ("Budget", "Budgets"),
    "driver": ("Search",),
    "errors": ("SearchError",),
    "evaluator": ("SupernetEvaluator",),
    "lowering": ("kernel_specs", "timed_specs"),
    "objective": ("reward",),
    "pareto": ("hypervolume", "pareto_front"),
    "pruned_fit": ("fit_pruned",),
    "result": ("Evaluation", "SearchResult", "Winner"),
    "run": ("check_budget", "prepare_search", "run_search"),
    "samplers": ("CandidateSampler", "NPASSampler", "make_sampler", "sampler_names"),
    "tournament": ("Bracket", "Entrant", "Tournament", "TournamentResult"),
    "variants": ("Menu", "Variants"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Allocation",
    "Bracket",
    "Budget",
    "Budgets",
    "CandidateSampler",
    "Entrant",
    "Evaluation",
    "Menu",
    "NPASSampler",
    "Search",
    "SearchError",
    "SearchResult",
    "SupernetEvaluator",
    "Tournament",
    "TournamentResult",
    "Variants",
    "Winner",
    "allocate",
    "check_budget",
    "fit_pruned",
    "hypervolume",
    "kernel_specs",
    "make_sampler",
    "pareto_front",
    "prepare_search",
    "reward",
    "run_search",
    "sampler_names",
    "timed_specs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
