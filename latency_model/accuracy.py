"""How good predictions are, beside how good they could be."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import kendalltau, spearmanr

from latency_model.runner import Floats


def accuracy_figures(predicted: Floats, measured: Floats, lower: Floats, upper: Floats) -> Mapping[str, float]:
    """Figures of one set of predictions, all arrays [n].

    Returns:
        `count`; `within_5`, `within_10`: percent of predictions off by at most 5 or 10 % of the measured time;
        `rmspe`: root mean square percentage error; `spearman`, `kendall`: rank correlations, NaN below three cases;
        `covered`: percent of measured times inside the interval.
    """
    error = np.abs(predicted / measured - 1)
    ranked = len(error) > 2 and len(set(predicted)) > 1 and len(set(measured)) > 1
    return {
        "count": len(error),
        "within_5": 100 * float(np.mean(error <= 0.05)),
        "within_10": 100 * float(np.mean(error <= 0.10)),
        "rmspe": 100 * float(np.sqrt(np.mean(error**2))),
        "spearman": float(spearmanr(predicted, measured).statistic) if ranked else float("nan"),
        "kendall": float(kendalltau(predicted, measured).statistic) if ranked else float("nan"),
        "covered": 100 * float(np.mean((lower <= measured) & (measured <= upper))),
    }


def noise_figures(noise: Floats) -> Mapping[str, float]:
    """What a predictor that knows the true times would reach, from how far repeated measurements disagree.

    Args:
        noise: standard error of the logarithm of each measured time [n]; NaN where it was measured once.
    """
    known = noise[np.isfinite(noise)]
    if not len(known):
        return dict.fromkeys(("noise_within_5", "noise_within_10", "noise_rmspe"), float("nan"))
    return {
        "noise_within_5": 100 * float(np.mean(known <= 0.05)),
        "noise_within_10": 100 * float(np.mean(known <= 0.10)),
        "noise_rmspe": 100 * float(np.sqrt(np.mean(known**2))),
    }
