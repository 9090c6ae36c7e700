"""How often models of a growing history are made anew: less often as it grows, as each costs more and says less new."""

from __future__ import annotations

import math

Steps = tuple[tuple[float, int], ...]
"""(number of observations, step below it) in rising order."""

RARELY: Steps = ((50, 5), (100, 10), (400, 20), (1000, 50), (math.inf, 100))
OFTEN: Steps = ((200, 5), (400, 20), (1000, 50), (math.inf, 100))


def milestone(count: int, steps: Steps) -> int:
    """The last number of observations, up to `count`, at which a model is made; 0 before the first step."""
    step = next(step for below, step in steps if count < below)
    return count // step * step
