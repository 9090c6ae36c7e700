"""Which sparsity every layer gets: as the user's plan says, or for a budget."""

from __future__ import annotations

import copy
from collections import defaultdict
from pathlib import Path

from omegaconf import DictConfig

from compiler import SELF_CONTAINED
from latency_model import LatencyPredictor, compare_runtimes
from pruning import make_algorithm
from pruning.errors import BudgetTooSmall
from scripts import inputs
from scripts.console import say
from scripts.errors import BudgetMissed
from scripts.prune import subject as subjects
from scripts.prune.plan_text import parse_plan
from scripts.prune.planned import Attempt, Planned
from scripts.prune.profile import compile_pruned
from scripts.prune.subject import Subject
from search.allocation import Allocation, allocate
from search.variants import Variants

ATTEMPTS = 4
CLOSE = 0.95
"""Share of the budget from which a plan is near enough to it."""
SECONDS = 1.0


def read_plan(config: DictConfig, run_dir: Path) -> None:
    """Write `plan.json` for a plan that the user gives."""
    subject = Subject.load(config)
    model = copy.deepcopy(subject.model)
    assignment = make_algorithm("magnitude", model, parse_plan(config.plan), subject.examples).assignment
    Planned({target.name: target.sparsity for target in assignment.targets}, assignment.skipped).write(
        run_dir / "plan.json"
    )


def allocate_budget(config: DictConfig, run_dir: Path) -> None:
    """Write `plan.json` for a budget.

    Plans are compiled and measured beside the dense network before anything is trained, for latency needs no training.
    By what the prediction missed, the predictor is held to another budget and the plan made again, up to four times, or
    until one takes 95 to 100 % of what it may. Of those within the budget the one that loses least is taken.

    Raises:
        BudgetTooSmall: no plan is predicted to meet the budget.
        BudgetMissed: none that is predicted to meet it does.
    """
    subject, device = Subject.load(config), inputs.device(config)
    predictor = LatencyPredictor.load(config.predictor or run_dir / "predictor")
    variants = subjects.variants(config, subject, subjects.importance(config, subject), device)
    budget = inputs.budget(config)
    dense = compile_pruned(subject, {}, device)
    target_ms = budget.resolve(dense.time(SECONDS).median_ms)
    attempts: list[Attempt] = []
    kept: list[Allocation] = []
    while len(attempts) < ATTEMPTS:
        allocation = _allocation(variants, predictor, target_ms, kept, first=not attempts)
        if allocation is None:
            break
        table = compare_runtimes(
            compile_pruned(subject, allocation.plan, device), {"dense": dense.run_once()}, seconds=SECONDS
        )
        measured_ms, dense_ms = table["measured_ms"].tolist()
        attempt = Attempt(allocation.predicted.mean_ms, measured_ms, budget.resolve(dense_ms))
        attempts.append(attempt)
        allowed_ms = attempt.budget_ms * (1 - config.margin)
        say(
            f"{len(allocation.plan)} layers pruned: {attempt.predicted_ms:.3f} ms predicted, {measured_ms:.3f} ms "
            f"measured, budget {attempt.budget_ms:.3f} ms"
        )
        if measured_ms <= allowed_ms:
            kept.append(allocation)
            if measured_ms >= CLOSE * allowed_ms or not allocation.plan:
                break
        target_ms = allocation.predicted.mean_ms * allowed_ms / measured_ms
    if not kept:
        nearest = min(attempts, key=lambda attempt: attempt.measured_ms / attempt.budget_ms)
        raise BudgetMissed(nearest.budget_ms, config.margin, nearest.measured_ms, len(attempts))
    best = min(kept, key=lambda allocation: allocation.lost)
    _planned(best, variants, predictor, attempts).write(run_dir / "plan.json")


def _allocation(
    variants: Variants, predictor: LatencyPredictor, target_ms: float, kept: list[Allocation], *, first: bool
) -> Allocation | None:
    """A plan that is new; None if there is none.

    Raises:
        BudgetTooSmall: there is none for the first target, which is the user's.
    """
    try:
        allocation = allocate(variants, predictor, target_ms)
    except BudgetTooSmall:
        if first:
            raise
        return None
    return None if allocation.plan in [other.plan for other in kept] else allocation


def _planned(
    allocation: Allocation, variants: Variants, predictor: LatencyPredictor, attempts: list[Attempt]
) -> Planned:
    layers: defaultdict[str, float] = defaultdict(float)
    calls = [call for call in variants.calls(allocation.plan) if call.spec.op in SELF_CONTAINED]
    for call, us in zip(calls, predictor.predict([call.spec for call in calls])["predicted_us"], strict=True):
        layers[call.layer] += float(us) / 1e3
    left = {name: "the budget leaves it dense" for site in variants.sites for name in site.layers}
    skipped = {name: reason for name, reason in left.items() if name not in allocation.plan} | variants.skipped
    predicted = allocation.predicted
    return Planned(
        allocation.plan,
        skipped,
        predicted.mean_ms,
        predicted.lower_ms,
        predicted.upper_ms,
        dict(layers),
        tuple(attempts),
    )
