"""How far a kernel is from those that were measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from latency_model.runner import Floats

TOGETHER = 128
"""Rows whose distances are worked out at a time, so that they stay in the cache."""


@dataclass(frozen=True)
class Neighbourhood:
    """Measured kernels as points, each feature in units of its deviation among them.

    Attributes:
        points: [kernels, columns], scaled.
        centre, deviation: of the features [columns].
        typical: median distance of a measured kernel to the nearest other one.
    """

    points: Floats
    centre: Floats
    deviation: Floats
    typical: float

    @classmethod
    def of(cls, features: Floats) -> tuple[Neighbourhood, Floats]:
        """The neighbourhood of measured kernels [kernels, columns].

        Returns:
            it, and how remote each of them [kernels] is from the nearest other one; see `remoteness`.
        """
        centre, deviation = features.mean(axis=0), features.std(axis=0)
        deviation = np.where(deviation > 0, deviation, 1.0)
        points = (features - centre) / deviation
        apart = cdist(points, points)
        np.fill_diagonal(apart, np.inf)
        nearest = apart.min(axis=1)
        typical = float(np.median(nearest)) or 1.0
        return cls(points, centre, deviation, typical), 1 + nearest / typical

    def remoteness(self, features: Floats) -> Floats:
        """1 + distance to the nearest measured kernel / typical distance [rows] of `features` [rows, columns]."""
        if not len(features):
            return np.empty(0)
        rows = (features - self.centre) / self.deviation
        # |a - b|^2 = |a|^2 - 2 ab + |b|^2 is fast, and exact enough to tell which is the nearest, but no more.
        pulls, squares = -2 * self.points.T, (self.points**2).sum(axis=1)
        parts = [rows[at : at + TOGETHER] for at in range(0, len(rows), TOGETHER)]
        nearest = np.concatenate([np.argmin(part @ pulls + squares, axis=1) for part in parts])
        apart: Floats = np.sqrt(((rows - self.points[nearest]) ** 2).sum(axis=1))
        return 1 + apart / self.typical
