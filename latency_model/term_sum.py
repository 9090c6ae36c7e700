"""A network's latency as a non-negative sum over what it holds, fitted to whole networks that were measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from latency_model.errors import InvalidMeasurement, TooFewMeasurements
from latency_model.runner import Floats

Ints = npt.NDArray[np.int64]

FAINT = 1e-4
"""Weight of the prior that a group of terms costs nothing: it decides what the networks leave open."""


@dataclass(frozen=True)
class TermSum:
    """latency = counts @ weights + overhead, none of them negative.

    A term is anything that a network holds so many times: a kernel, or an operator at one of its positions.

    Attributes:
        weights: milliseconds of each term [terms].
        overhead: milliseconds that a network costs whatever it holds.
    """

    weights: Floats
    overhead: float

    @classmethod
    def fit(cls, counts: Floats, measured_ms: Floats, groups: Ints, strength: float) -> TermSum:
        """Least squares of the relative error, the terms of a group drawn to what they cost on average.

        First one weight a group is fitted; then all of them, with the penalty strength * (weight / average - 1)^2.

        Args:
            counts: how often each network holds each term [networks, terms].
            measured_ms: latency of each network [networks].
            groups: number of the group that each term belongs to [terms].
            strength: weight of the penalty, in networks that are off by 100 %.

        Raises:
            TooFewMeasurements: without any network.
            InvalidMeasurement: if a latency is not positive and finite.
        """
        require_latencies(measured_ms)
        members = (groups[:, None] == np.unique(groups)).astype(np.float64)
        average, _ = _solve(counts @ members, measured_ms, np.zeros(members.shape[1]), FAINT)
        expected = members @ average
        return cls(*_solve(counts, measured_ms, expected, strength))

    def predict(self, counts: Floats) -> Floats:
        """Milliseconds [networks] for `counts` [networks, terms]."""
        result: Floats = counts @ self.weights + self.overhead
        return result


def require_latencies(measured_ms: Floats) -> None:
    """Raise the named error unless there are latencies, all of them positive and finite."""
    if not len(measured_ms):
        raise TooFewMeasurements("no measured network was given; measure at least one")
    if not (np.isfinite(measured_ms) & (measured_ms > 0)).all():
        raise InvalidMeasurement("a measured latency of a network is not positive and finite")


def _solve(counts: Floats, measured_ms: Floats, expected: Floats, strength: float) -> tuple[Floats, float]:
    """Non-negative weights and overhead of the least relative error, the weights drawn to `expected`."""
    unit = expected.mean() if expected.any() else measured_ms.mean()
    columns = np.column_stack([counts, np.ones(len(counts))])
    penalty = np.sqrt(strength) / unit * np.eye(counts.shape[1], counts.shape[1] + 1)
    rows = np.concatenate([columns / measured_ms[:, None], penalty])
    solution, _ = nnls(rows, np.concatenate([np.ones(len(counts)), np.sqrt(strength) / unit * expected]))
    return solution[:-1], float(solution[-1])
