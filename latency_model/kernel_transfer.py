"""Microseconds of kernels on a device of which little was measured, from other devices that are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from compiler import KernelSpec, Target
from latency_model import artifact
from latency_model.boosting import Boosting
from latency_model.conformal import conformal_quantile
from latency_model.features import Encoder, schedules, work
from latency_model.kernel_model import COVERAGE, KernelModel, measured_of, target_of
from latency_model.roofline import Roofline
from latency_model.runner import Floats
from latency_model.term_sum import Ints
from latency_model.transfer import MIXTURE, OWN, SCALE, SPECS, Mode, Predict, choose

LEAST_SCALE, LEAST_MIXTURE, LEAST_OWN = 2, 25, 200
"""Measured kernels below which a mode is not tried."""
PRIOR = 0.3
"""Deviation that a mixture gives shares of sources, and logarithms of the roofline's constants, beforehand."""
NOISE = 0.05
"""Deviation that it takes the logarithm of a measured time to have, beside what the sources tell of it."""


@dataclass(frozen=True)
class Mixture:
    """log time = log roofline + shares of what the sources take longer than their rooflines say.

    Attributes:
        roofline: of the new device.
        shares: of each source.
    """

    roofline: Roofline
    shares: tuple[float, ...]

    def us(self, work: Floats, excess: Floats) -> Floats:
        """Microseconds [n] for `work` [n, 2] and the sources' `excess` [n, sources]."""
        result: Floats = self.roofline.us(work) * np.exp(excess @ np.array(self.shares))
        return result


@dataclass(frozen=True)
class TransferredKernels:
    """Predicts the kernels of a new device.

    Attributes:
        target: what they are compiled for.
        sources: models of other devices.
        mixture: how they are put together.
        log_width: half-width of the conformal interval of the logarithm, in those that the sources give on average;
            infinite while too few kernels were measured.
        measured: microseconds of the kernels that were measured; asked for one, the answer is its own measurement.
    """

    target: Target
    sources: tuple[Source, ...]
    mixture: Mixture
    log_width: float
    measured: Mapping[KernelSpec, float]

    @property
    def roofline(self) -> Roofline:
        """The analytic part."""
        return self.mixture.roofline

    def predict(self, specs: Sequence[KernelSpec]) -> Floats:
        """Predicted microseconds, and half-width of the interval of their logarithm [len(specs), 2].

        Raises:
            UnknownKernel: if a kernel is of a kind that was never measured on a source.
        """
        modelled = self.mixture.us(work(schedules(specs, self.target)), excesses(self.sources, specs))
        us = [self.measured.get(spec, time) for spec, time in zip(specs, modelled.tolist(), strict=True)]
        return np.stack([us, self.log_width * spread(self.sources, specs)], axis=1)

    def excess(self, specs: Sequence[KernelSpec]) -> Floats:
        """Logarithm of the predicted time over the roofline's [len(specs)]."""
        return np.log(self.predict(specs)[:, 0] / self.roofline.us(work(schedules(specs, self.target))))

    def disagreement(self, specs: Sequence[KernelSpec]) -> Floats:
        """How far the sources are apart: deviation of the logarithm [len(specs)]."""
        result: Floats = np.std(excesses(self.sources, specs), axis=1)
        return result

    def to_facts(self) -> dict[str, Any]:
        """All but the sources, as plain values for JSON."""
        return {
            "target": vars(self.target),
            "roofline": vars(self.roofline),
            "shares": self.mixture.shares,
            "log_width": artifact.number(self.log_width),
            "measured": [{**spec.to_dict(), "us": us} for spec, us in self.measured.items()],
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], sources: Sequence[Source]) -> TransferredKernels:
        """Inverse of `to_facts`; raises KeyError, ValueError or TypeError."""
        shares = tuple(map(float, facts["shares"]))
        if len(shares) != len(sources):
            raise ValueError(f"{len(shares)} shares of {len(sources)} sources")
        mixture = Mixture(Roofline(**facts["roofline"]), shares)
        return cls(target_of(facts), tuple(sources), mixture, float(facts["log_width"]), measured_of(facts))


Source = KernelModel | TransferredKernels


@dataclass(frozen=True)
class Transfer:
    """What came of a transfer.

    Attributes:
        mode: `specs`, `scale`, `mixture` or `own`.
        errors: of each mode that was tried, see `transfer.Choice`.
        kernels: the model.
    """

    mode: str
    errors: Mapping[str, float]
    kernels: Source


def transfer(
    specs: Sequence[KernelSpec],
    us: Floats,
    target: Target,
    sources: Sequence[Source],
    *,
    cycle_us: float | None = None,
    byte_us: float | None = None,
    seed: int = 0,
) -> Transfer:
    """The kernels of a new device, in the way that predicts measured ones best which were left out of the fit.

    Without a measurement the device's data sheet, or the mean of the sources, stands for its speed, and the mean of the
    sources for all else (`specs`). With a few, their median fits the scale of one source or of that mean (`scale`).
    From 25 on, constants of the roofline and shares of the sources are fitted, drawn to these (`mixture`); from 200 on,
    a model that knows nothing of the sources may be better (`own`).

    Args:
        specs: measured kernels.
        us: their times [len(specs)].
        target: what they are compiled for.
        sources: other devices, at least one.
        cycle_us, byte_us: what the data sheet says of a roofline's constants; see `Device`.
        seed: of the folds and of the boosting.

    Raises:
        UnknownKernel: if a kernel is of a kind that was never measured on a source.
        InvalidMeasurement: if a time is not positive and finite.
    """
    amounts, excess = work(schedules(specs, target)), excesses(sources, specs)
    mean = _mean([source.roofline for source in sources])
    roofline = Roofline(cycle_us or mean.cycle_us, byte_us or mean.byte_us, mean.call_us)
    start = Mixture(roofline, (1 / len(sources),) * len(sources))
    alone = [Mixture(source.roofline, _only(index, len(sources))) for index, source in enumerate(sources)]
    fits: list[tuple[str, int, Callable[[Ints, Floats], Mixture]]] = [(SPECS, 0, lambda cases, measured: start)]
    for guess in (start, *alone):
        fits.append((SCALE, LEAST_SCALE, _scaled(guess, amounts, excess)))
    fits.append((MIXTURE, LEAST_MIXTURE, _fitted(start, amounts, excess)))
    ways = {Mode(name, least, _predicting(fit, amounts, excess)): fit for name, least, fit in fits}
    own = Mode(OWN, LEAST_OWN, _own(specs, amounts, target, seed))
    every = np.arange(len(specs))
    choice = choose([*ways, own], every, us, seed=seed)
    if choice.mode == own:
        return Transfer(OWN, choice.errors, KernelModel.fit(specs, us, target, seed))
    kernels = TransferredKernels(
        target,
        tuple(sources),
        ways[choice.mode](every, us),
        _log_width(choice.left_out, sources, specs),
        dict(zip(specs, us.tolist(), strict=True)),
    )
    return Transfer(choice.mode.name, choice.errors, kernels)


def excesses(sources: Sequence[Source], specs: Sequence[KernelSpec]) -> Floats:
    """What each source takes longer than its roofline says: logarithms [len(specs), sources]."""
    return np.stack([source.excess(specs) for source in sources], axis=1)


def spread(sources: Sequence[Source], specs: Sequence[KernelSpec]) -> Floats:
    """Half-width of the sources' intervals, on average [len(specs)]: which kernels are hard to tell."""
    result: Floats = np.mean([source.predict(specs)[:, 1] for source in sources], axis=0)
    return result


def _log_width(left_out: Floats, sources: Sequence[Source], specs: Sequence[KernelSpec]) -> float:
    """Conformal half-width, in those of the sources; where these are infinite, an error says nothing of it."""
    if not len(left_out):
        return math.inf
    usual = spread(sources, specs)
    told = np.isfinite(usual)
    return conformal_quantile(np.abs(left_out[told]) / usual[told], COVERAGE)


def _predicting(fit: Callable[[Ints, Floats], Mixture], amounts: Floats, excess: Floats) -> Callable[..., Predict]:
    def fitted(cases: Ints, measured: Floats) -> Predict:
        mixture = fit(cases, measured)
        return lambda asked: mixture.us(amounts[asked], excess[asked])

    return fitted


def _scaled(guess: Mixture, amounts: Floats, excess: Floats) -> Callable[[Ints, Floats], Mixture]:
    def fit(cases: Ints, measured: Floats) -> Mixture:
        factor = float(np.exp(np.median(np.log(measured / guess.us(amounts[cases], excess[cases])))))
        return Mixture(guess.roofline.times(factor), guess.shares)

    return fit


def _fitted(guess: Mixture, amounts: Floats, excess: Floats) -> Callable[[Ints, Floats], Mixture]:
    """Robust least squares of the logarithm, with a Gaussian prior around `guess` at the scale that fits best."""

    def mixture(parameters: Floats) -> Mixture:
        return Mixture(Roofline(*map(float, np.exp(parameters[:3]))), tuple(map(float, parameters[3:])))

    def fit(cases: Ints, measured: Floats) -> Mixture:
        scaled = _scaled(guess, amounts, excess)(cases, measured)
        start = np.concatenate([np.log([*vars(scaled.roofline).values()]), scaled.shares])

        def residual(parameters: Floats) -> Floats:
            off = np.log(mixture(parameters).us(amounts[cases], excess[cases]) / measured)
            return np.concatenate([off / NOISE, (parameters - start) / PRIOR])

        return mixture(least_squares(residual, start, loss="soft_l1").x)

    return fit


def _own(specs: Sequence[KernelSpec], amounts: Floats, target: Target, seed: int) -> Callable[..., Predict]:
    """Judged by a single model, which is a little worse than the ensemble that is fitted in the end."""
    chosen = schedules(specs, target)
    features = Encoder.of(specs, target).encode(specs, chosen)

    def fit(cases: Ints, measured: Floats) -> Predict:
        roofline = Roofline.fit(amounts[cases], measured)
        model = Boosting.single(features[cases], np.log(measured / roofline.us(amounts[cases])), seed)
        return lambda asked: roofline.us(amounts[asked]) * np.exp(model.predict(features[asked]))

    return fit


def _mean(rooflines: Sequence[Roofline]) -> Roofline:
    """Geometric means of the constants."""
    logs = np.log([[*vars(roofline).values()] for roofline in rooflines])
    return Roofline(*map(float, np.exp(logs.mean(axis=0))))


def _only(index: int, count: int) -> tuple[float, ...]:
    return tuple(float(number == index) for number in range(count))
