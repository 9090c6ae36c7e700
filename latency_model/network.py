"""From the kernels of a network to its latency."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from latency_model.conformal import conformal_quantile
from latency_model.errors import InvalidMeasurement, TooFewMeasurements
from latency_model.runner import Floats

TRUST = 0.1
"""Weight, in networks each off by 100 %, of the prior that kernels in a network take what they took when timed."""


@dataclass(frozen=True)
class NetworkPrediction:
    """Predicted latency with the ends of its interval."""

    mean_ms: float
    lower_ms: float
    upper_ms: float

    def times(self, factor: float) -> NetworkPrediction:
        """The prediction for a network that takes so many times as long."""
        return NetworkPrediction(factor * self.mean_ms, factor * self.lower_ms, factor * self.upper_ms)


@dataclass(frozen=True)
class NetworkModel:
    """latency = scale * sum over kernels + overhead, neither of them negative.

    Attributes:
        scale: of the sum; 1 before any network was measured.
        overhead_ms: what a network costs whatever it holds.
        log_width: half-width of the interval of the logarithm, infinite while too few networks were measured.
    """

    scale: float = 1.0
    overhead_ms: float = 0.0
    log_width: float = math.inf

    @classmethod
    def fit(cls, sums_ms: Floats, measured_ms: Floats, coverage: float) -> NetworkModel:
        """Least squares of the *relative* error with non-negative coefficients; the interval from leaving one out.

        Args:
            sums_ms: predicted sum over the kernels of each network [n].
            measured_ms: its measured latency [n].
            coverage: nominal coverage of the interval.

        Raises:
            TooFewMeasurements: with fewer than two networks.
            InvalidMeasurement: if a latency is not positive and finite.
        """
        if len(sums_ms) < 2:
            raise TooFewMeasurements(f"{len(sums_ms)} measured networks were given; at least 2 are needed")
        if not (np.isfinite(measured_ms) & (measured_ms > 0)).all():
            raise InvalidMeasurement("a measured latency of a network is not positive and finite")
        scale, overhead = _solve(sums_ms, measured_ms)
        others = ~np.eye(len(sums_ms), dtype=bool)
        left_out = np.array([_solve(sums_ms[keep], measured_ms[keep]) for keep in others])
        errors = np.abs(np.log((left_out[:, 0] * sums_ms + left_out[:, 1]) / measured_ms))
        return cls(scale, overhead, conformal_quantile(errors, coverage))

    def predict(self, mean_ms: float, lower_ms: float, upper_ms: float) -> NetworkPrediction:
        """Prediction from the sums of the kernels' predictions and of the ends of their intervals.

        While too few networks were measured to know better, all kernels are taken to be off in the same direction.
        """
        mean = self.scale * mean_ms + self.overhead_ms
        if math.isfinite(self.log_width):
            return NetworkPrediction(mean, mean * math.exp(-self.log_width), mean * math.exp(self.log_width))
        lower, upper = (self.scale * end + self.overhead_ms for end in (lower_ms, upper_ms))
        return NetworkPrediction(mean, lower, upper)


def _solve(sums_ms: Floats, measured_ms: Floats) -> tuple[float, float]:
    rows = np.stack([sums_ms / measured_ms, 1 / measured_ms], axis=1)
    prior = math.sqrt(TRUST) * np.array([[1.0, 0.0]])
    solution, _ = nnls(np.concatenate([rows, prior]), np.append(np.ones(len(rows)), math.sqrt(TRUST)))
    return float(solution[0]), float(solution[1])
