"""Schemes and rates of a network's layers under a latency budget: the least importance lost, as predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from compiler import KernelSpec
from latency_model import NetworkPrediction
from pruning.errors import BudgetTooSmall
from pruning.knapsack import Option, Selection, select
from search.variants import Plan, Variant, Variants

ROUNDS = 12


class Predictor(Protocol):
    """What is needed of `LatencyPredictor`."""

    def predict(self, specs: Sequence[KernelSpec]) -> pd.DataFrame:
        """`predicted_us` of kernels."""

    def predict_network(self, specs: Sequence[KernelSpec]) -> NetworkPrediction:
        """Milliseconds of a network."""


@dataclass(frozen=True)
class Allocation:
    """A plan, and what is expected of it.

    Attributes:
        plan: sparsities by module name; what is not in it stays dense.
        lost: importance of the weights that go.
        predicted: of the whole network as it is lowered under the plan.
        dense: of the dense network.
        rounds: plans that were tried.
    """

    plan: Plan
    lost: float
    predicted: NetworkPrediction
    dense: NetworkPrediction
    rounds: int


def allocate(variants: Variants, predictor: Predictor, budget_ms: float) -> Allocation:
    """The plan that loses the least importance among those found whose network is predicted within the budget.

    Like HALP (Shen et al. 2022, 2110.10811): a knapsack of importance against latency, but over schemes and rates, and
    solved exactly. Times of single layers do not add up to the network's, as filters change the layers behind them and
    layouts their neighbours. So the plan is lowered and predicted as a whole, the knapsack's budget is corrected by
    what the sum missed, and the plan is made again, until it does not change; the best of them is returned.

    Args:
        budget_ms: of the mean prediction.

    Raises:
        BudgetTooSmall: no plan was found within it; names the fastest latency that is predicted.
        UnknownKernel: a kernel is of a kind that the predictor never saw.
    """
    dense = predictor.predict_network(variants.dense)
    options = [
        [
            [[_option(variant, predictor) for variant in slot] for slot in alternative]
            for alternative in site.alternatives
        ]
        for site in variants.sites
    ]
    fastest = _selection(options, -math.inf)
    tried = {fastest: predictor.predict_network(variants.kernels(variants.plan(fastest.picks)))}
    allowed_ms = budget_ms - dense.mean_ms
    while len(tried) <= ROUNDS and (selection := _selection(options, allowed_ms)) not in tried:
        tried[selection] = predictor.predict_network(variants.kernels(variants.plan(selection.picks)))
        allowed_ms = selection.ms + budget_ms - tried[selection].mean_ms
    feasible = [selection for selection, predicted in tried.items() if predicted.mean_ms <= budget_ms]
    if not feasible:
        raise BudgetTooSmall(budget_ms, min(predicted.mean_ms for predicted in tried.values()))
    best = min(feasible, key=lambda selection: selection.lost)
    return Allocation(variants.plan(best.picks), best.lost, tried[best], dense, len(tried))


def _option(variant: Variant, predictor: Predictor) -> Option:
    """What a variant loses, and the milliseconds that it takes more than dense."""
    added, removed = (
        float(predictor.predict(list(specs))["predicted_us"].sum()) / 1e3 if specs else 0.0
        for specs in (variant.added, variant.removed)
    )
    return Option(variant.lost, added - removed)


def _selection(options: Sequence[Sequence[Sequence[Sequence[Option]]]], allowed_ms: float) -> Selection:
    """The best selection, or the fastest if none is within the limit."""
    try:
        return select(options, allowed_ms)
    except BudgetTooSmall as error:
        return select(options, error.fastest_ms)
