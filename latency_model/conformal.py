"""How far predictions are off, without assuming any distribution."""

from __future__ import annotations

import math

import numpy as np

from latency_model.runner import Floats


def conformal_quantile(scores: Floats, coverage: float) -> float:
    """The half-width that covers a new score with probability `coverage` (split conformal; Vovk et al., 2005).

    Args:
        scores: absolute errors [n] of predictions for cases that were not fitted on.
        coverage: in (0, 1).

    Returns:
        the ceil((n + 1) * coverage)-th smallest score, infinite when there are too few.
    """
    rank = math.ceil((len(scores) + 1) * coverage)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf
