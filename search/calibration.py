"""How far a latency predictor is off for the candidates that a search will look for, found by measuring a few."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from compiler import Target
from latency_model import LatencyPredictor
from search.candidate_latency import CandidateLatency
from search.encoding import Encoding
from search.errors import CalibrationCorrupt, PredictorOff
from search.feasible import FeasibleSet
from search.least_distortion import POWERS, LeastDistortion
from supernet import Candidate, ChoiceSpace, Distortions

CALIBRATION = "calibration.json"
MOST = 2.0
"""Factor by which predictions may be off; beyond it the predictor is not of this device or this space."""

_ANEW = "move it and study.db away, and the search begins anew"

Measure = Callable[[Sequence[Candidate]], Sequence[float]]
"""Candidates -> measured latencies in milliseconds."""


def calibration_factor(
    latency: CandidateLatency,
    budgets_ms: Sequence[float],
    distortions: Callable[[], Distortions],
    measure: Measure,
    file: Path,
) -> float:
    """What predictions have to be multiplied by, as `file` says or else as measured.

    A predictor tells what networks took on the machine as it was when kernels were timed, and a budget in percent is
    one of the dense network as it is now: a core beside it that is busy makes 6 % already. And a search looks for
    those that are said to be fast: among them are those that the predictor takes for faster than they are. So a few
    candidates, those of least distortion under the budgets, are measured before the search. The factor is the one
    nearest to 1 with which the slowest of them, compared with what was predicted, lies within its interval: 1 where it
    does so already, and none lies above its own.

    Raises:
        InfeasibleBudget: no candidate is predicted to meet a budget.
        PredictorOff: the predictor is wrong by more than a factor of two.
        CalibrationCorrupt: the file is damaged.
    """
    if not file.exists():
        candidates = typical_candidates(latency, budgets_ms, distortions())
        measured = np.array(measure(candidates))
        predicted = [latency(candidate) for candidate in candidates]
        least = (measured / np.array([prediction.upper_ms for prediction in predicted])).max()
        most = (measured / np.array([prediction.lower_ms for prediction in predicted])).max()
        factor = float(np.clip(1.0, least, most))
        if not 1 / MOST <= factor <= MOST:
            raise PredictorOff(factor, len(candidates))
        texts = [candidate.to_json() for candidate in candidates]
        means = [prediction.mean_ms for prediction in predicted]
        content = {"candidate": texts, "predicted_ms": means, "measured_ms": measured.tolist()}
        written = file.with_name(file.name + ".part")
        written.write_text(json.dumps({"factor": factor, **content}))
        os.replace(written, file)
    return read_calibration(file)


def read_calibration(file: Path) -> float:
    """The factor that `calibration_factor` wrote.

    Raises:
        CalibrationCorrupt: the file is damaged.
    """
    try:
        factor = float(json.loads(file.read_text())["factor"])
    except (ValueError, TypeError, KeyError) as error:
        raise CalibrationCorrupt(f"{file} is damaged ({error}): {_ANEW}") from error
    if not 1 / MOST <= factor <= MOST:
        raise CalibrationCorrupt(f"{file} says {factor}, which is no factor of a predictor: {_ANEW}")
    return factor


def latency_of_run(space: ChoiceSpace, target: Target, run_dir: Path) -> CandidateLatency:
    """What the predictor of a run says, corrected as its search was, if there was one.

    Raises:
        ArtifactCorrupt, CalibrationCorrupt: a file of the run directory is damaged.
    """
    file = run_dir / CALIBRATION
    factor = read_calibration(file) if file.exists() else 1.0
    return CandidateLatency(space, LatencyPredictor.load(run_dir / "predictor"), target, factor=factor)


def typical_candidates(
    latency: CandidateLatency, budgets_ms: Sequence[float], distortions: Distortions
) -> list[Candidate]:
    """A few candidates like those that a search will look for: of least distortion under the budgets, each for another
    power."""
    encoding = Encoding(latency.space)

    @cache
    def rule(budget_ms: float) -> LeastDistortion:
        return LeastDistortion(FeasibleSet(encoding, latency.upper_ms, budget_ms), distortions)

    spread = (budgets_ms[i * len(budgets_ms) // len(POWERS)] for i in range(len(POWERS)))
    codes = dict.fromkeys(rule(budget_ms).code(power) for budget_ms, power in zip(spread, POWERS, strict=True))
    return [encoding.candidate(code) for code in codes]
