"""The trade-offs that nothing beats."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd


def pareto_front(frame: pd.DataFrame, maximise: str = "accuracy", minimise: str = "latency") -> pd.DataFrame:
    """The rows that no other row dominates, from the least of `minimise` to the largest; the index is kept.

    A row dominates another if it is at least as good in both columns and better in one; equal rows stay together.

    Raises:
        ValueError: one of the columns holds NaN, which is neither better nor worse than a number.
    """
    if frame[[maximise, minimise]].isna().to_numpy().any():
        raise ValueError(f"columns {maximise!r} and {minimise!r} hold NaN; drop the rows without a value first")
    ordered = frame.sort_values([minimise, maximise], ascending=[True, False], kind="stable")
    keep = []
    best, at = -math.inf, math.nan
    for gain, cost in zip(ordered[maximise], ordered[minimise], strict=True):
        keep.append(gain > best or (gain == best and cost == at))
        if gain > best:
            best, at = gain, cost
    return ordered[np.array(keep, dtype=bool)]


def hypervolume(
    frame: pd.DataFrame, reference: tuple[float, float], maximise: str = "accuracy", minimise: str = "latency"
) -> float:
    """Area that the rows dominate within a reference point: how far a search for the whole front has got.

    Args:
        reference: (gain, cost); rows that are not better than it in both count nothing.

    Raises:
        ValueError: one of the columns holds NaN.
    """
    least_gain, most_cost = reference
    front = pareto_front(frame, maximise, minimise)
    area, covered = 0.0, least_gain
    for gain, cost in zip(front[maximise], front[minimise], strict=True):
        if gain > covered and cost < most_cost:
            area += (gain - covered) * (most_cost - cost)
            covered = gain
    return area
