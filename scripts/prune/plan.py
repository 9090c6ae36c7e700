"""Which sparsity every layer gets: as the user's plan says, or for a budget."""

from __future__ import annotations

import copy
from collections import defaultdict
from pathlib import Path

from omegaconf import DictConfig

from latency_model import LatencyPredictor, compare_runtimes
from pruning import make_algorithm
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

    The plan is compiled and measured beside the dense network before anything is trained, for latency needs no
    training. Where it misses the budget, the predictor is held to a smaller one.

    Raises:
        BudgetTooSmall: no plan is predicted to meet the budget.
        BudgetMissed: none of four that are predicted to meet it does.
    """
    subject, device = Subject.load(config), inputs.device(config)
    predictor = LatencyPredictor.load(config.predictor or run_dir / "predictor")
    importance = subjects.importance(config, subject)
    variants = subjects.variants(config, subject, importance, device)
    budget = inputs.budget(config)
    dense = compile_pruned(subject, {}, device)
    target_ms = budget.resolve(dense.time(SECONDS).median_ms)
    attempts: list[Attempt] = []
    for _ in range(ATTEMPTS):
        allocation = allocate(variants, predictor, target_ms)
        pruned = compile_pruned(subject, allocation.plan, device)
        table = compare_runtimes(pruned, {"dense": dense.run_once()}, seconds=SECONDS)
        measured_ms, dense_ms = table["measured_ms"].tolist()
        budget_ms = budget.resolve(dense_ms)
        attempts.append(Attempt(allocation.predicted.mean_ms, measured_ms, budget_ms))
        kept = measured_ms <= budget_ms * (1 - config.margin)
        say(
            f"{len(allocation.plan)} layers pruned: {allocation.predicted.mean_ms:.3f} ms predicted, "
            f"{measured_ms:.3f} ms measured, budget {budget_ms:.3f} ms, {'taken' if kept else 'planned again for less'}"
        )
        if kept:
            _planned(allocation, variants, predictor, attempts).write(run_dir / "plan.json")
            return
        target_ms = allocation.predicted.mean_ms * budget_ms * (1 - config.margin) / measured_ms
    raise BudgetMissed(attempts[-1].budget_ms, min(attempt.measured_ms for attempt in attempts), len(attempts))


def _planned(
    allocation: Allocation, variants: Variants, predictor: LatencyPredictor, attempts: list[Attempt]
) -> Planned:
    layers: defaultdict[str, float] = defaultdict(float)
    calls = variants.calls(allocation.plan)
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
