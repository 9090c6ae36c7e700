"""From devices that are known to one that is new: several ways to use them, and the choice by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from latency_model.errors import TooFewMeasurements
from latency_model.runner import Floats
from latency_model.term_sum import Ints, TermSum, require_latencies

FOLDS = 10
SPECS, SCALE, MIXTURE, OWN = "specs", "scale", "mixture", "own"

Predict = Callable[[Ints], Floats]
Fit = Callable[[Ints, Floats], Predict]


@dataclass(frozen=True)
class Mode:
    """A way to predict cases on a new device.

    Attributes:
        name: `specs`, `scale`, `mixture` or `own`; several modes of one name differ in what they assume.
        least: measured cases below which it is not tried.
        fit: from numbers and measured times of cases to a function from numbers of cases to predicted times.
    """

    name: str
    least: int
    fit: Fit


@dataclass(frozen=True)
class Choice:
    """The mode that was chosen, fitted to all that was measured.

    Attributes:
        mode: the mode.
        predict: its prediction for cases by number.
        errors: of each name the smallest root mean square of the log ratio of predicted and measured, on cases that
            were left out of the fit; empty below two cases.
        left_out: that log ratio of each case under the chosen mode [n]; empty below two cases.
    """

    mode: Mode
    predict: Predict
    errors: dict[str, float]
    left_out: Floats


def choose(modes: Sequence[Mode], cases: Ints, measured: Floats, *, seed: int = 0) -> Choice:
    """Fit every mode that the number of cases allows, ten times without a tenth of them, and take the best.

    Args:
        modes: candidates. Below two measured cases none can be left out, and the first that needs no more is taken.
        cases: numbers of the measured cases [n].
        measured: their times [n].
        seed: of the folds.

    Raises:
        TooFewMeasurements: if every mode needs more cases.
        InvalidMeasurement: if a time is not positive and finite.
    """
    allowed = [mode for mode in modes if mode.least <= len(cases)]
    if not allowed:
        least = min(mode.least for mode in modes)
        raise TooFewMeasurements(f"{len(cases)} cases were measured; the least that any mode needs is {least}")
    if len(cases):
        require_latencies(measured)
    if len(cases) < 2:
        return Choice(allowed[0], allowed[0].fit(cases, measured), {}, np.empty(0))
    fold = np.random.default_rng(seed).permutation(len(cases)) % min(FOLDS, len(cases))
    logs = [_left_out(mode, cases, measured, fold) for mode in allowed]
    errors = [float(np.sqrt(np.mean(off**2))) for off in logs]
    number = int(np.argmin(errors))
    best = allowed[number]
    by_name: dict[str, float] = {}
    for mode, error in zip(allowed, errors, strict=True):
        by_name[mode.name] = min(error, by_name.get(mode.name, error))
    return Choice(best, best.fit(cases, measured), by_name, logs[number])


def network_modes(counts: Floats, groups: Ints, sources: Sequence[TermSum]) -> list[Mode]:
    """All modes for networks that are sums over terms.

    Args:
        counts: how often each network holds each term [networks, terms]; modes number networks by row.
        groups: number of the group that each term belongs to [terms].
        sources: other devices, fitted to networks of the same terms; without any, only `own` is left.
    """
    modes = [Mode(OWN, 20, _own(counts, groups, strength)) for strength in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)]
    if not sources:
        return [Mode(OWN, 1, mode.fit) for mode in modes]
    known = np.stack([source.predict(counts) for source in sources], axis=1)
    modes += [Mode(SCALE, 1, _scale(known[:, index])) for index in range(len(sources))]
    modes += [Mode(MIXTURE, 8, _mixture(counts, groups, sources, known, noise)) for noise in (1e-3, 1e-2)]
    return [Mode(SPECS, 0, lambda cases, measured: lambda asked: known[asked].mean(axis=1)), *modes]


def _left_out(mode: Mode, cases: Ints, measured: Floats, fold: Ints) -> Floats:
    logs = np.empty(len(cases))
    for number in np.unique(fold):
        out = fold == number
        predicted = mode.fit(cases[~out], measured[~out])(cases[out])
        logs[out] = np.log(np.maximum(predicted, 1e-3 * measured[out]) / measured[out])
    return logs


def _own(counts: Floats, groups: Ints, strength: float) -> Fit:
    def fit(cases: Ints, measured: Floats) -> Predict:
        model = TermSum.fit(counts[cases], measured, groups, strength)
        return lambda asked: model.predict(counts[asked])

    return fit


def _scale(known: Floats) -> Fit:
    def fit(cases: Ints, measured: Floats) -> Predict:
        factor = np.exp(np.median(np.log(measured / known[cases])))
        return lambda asked: factor * known[asked]

    return fit


ALL_TERMS, ONE_GROUP, ONE_TERM = 10.0, 0.003, 0.01
"""Variances of the prior of a mixture, relative to what the sources say: of the shares of the sources, of their shares
within a group, and of each term by itself, relative to the average term."""


def _mixture(counts: Floats, groups: Ints, sources: Sequence[TermSum], known: Floats, noise: float) -> Fit:
    """Bayesian linear regression whose prior the sources give.

    Relative weights are Gaussian around the mean of the sources', and vary as these do among one another, as a whole
    and within each group; the overhead is free. `noise` is the variance of the relative error.
    """
    relative = np.stack([source.weights for source in sources]) / known.mean(axis=0)[:, None]
    mean = relative.mean(axis=0)
    together = (groups[:, None] == groups).astype(np.float64)
    shares = relative - mean
    covariance = ALL_TERMS * shares.T @ shares + ONE_GROUP * (relative.T @ relative) / len(sources) * together
    covariance += ONE_TERM * (mean.mean() ** 2) * np.eye(len(mean))
    centre, root = counts @ mean, counts @ covariance

    def fit(cases: Ints, measured: Floats) -> Predict:
        unit = measured.mean()
        offset = 1 - centre[cases].mean()
        among = root[cases] @ counts[cases].T + 1
        solved = np.linalg.solve(among + noise * np.eye(len(cases)), measured / unit - centre[cases] - offset)

        def predict(asked: Ints) -> Floats:
            result: Floats = unit * (centre[asked] + offset + (root[asked] @ counts[cases].T + 1) @ solved)
            return result

        return predict

    return fit
