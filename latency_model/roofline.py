"""The analytic part of a prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from latency_model.runner import Floats


@dataclass(frozen=True)
class Roofline:
    """time = max(cycles / clock, bytes / bandwidth) + call (Williams et al., 2009, with a cost of calling).

    The three constants of a device are fitted to what was measured there, so that a device needs no program but
    the kernels themselves.

    Attributes:
        cycle_us: microseconds an issue cycle.
        byte_us: microseconds a byte.
        call_us: microseconds a kernel costs whatever it does.
    """

    cycle_us: float
    byte_us: float
    call_us: float

    @classmethod
    def fit(cls, work: Floats, us: Floats) -> Roofline:
        """Fit to kernels with known `work` [kernels, 2] (cycles and bytes) and times `us` [kernels].

        Minimises a robust loss of the logarithm of predicted over measured.
        """
        cycles, traffic = work.T
        start = np.log([np.median(us / cycles.clip(1)), np.median(us / traffic.clip(1)) / 4, us.min() / 4])

        def residual(parameters: Floats) -> Floats:
            return np.log(cls(*np.exp(parameters)).us(work) / us)

        found = least_squares(residual, start, loss="soft_l1", f_scale=0.2)
        return cls(*(float(value) for value in np.exp(found.x)))

    def times(self, factor: float) -> Roofline:
        """That of a device that takes `factor` times as long for everything."""
        return Roofline(factor * self.cycle_us, factor * self.byte_us, factor * self.call_us)

    def us(self, work: Floats) -> Floats:
        """Microseconds for `work` [kernels, 2]."""
        result: Floats = np.maximum(work[:, 0] * self.cycle_us, work[:, 1] * self.byte_us) + self.call_us
        return result
