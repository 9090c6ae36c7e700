"""What the search maximises."""

from __future__ import annotations

PENALTY = 50.0


def reward(accuracy: float, latency_ms: float, budget_ms: float, *, penalty: float = PENALTY) -> float:
    """accuracy - penalty * max(0, latency / budget - 1): 10 % over the budget cost 5 points.

    The hinge of NPAS (Li et al. 2021, arXiv 2012.00596) with the excess relative to the budget. Under the admission
    filter it only acts on candidates that were put into the study by hand.

    Args:
        accuracy: percent points.
        latency_ms, budget_ms: milliseconds.
    """
    return accuracy - penalty * max(0.0, latency_ms / budget_ms - 1.0)
