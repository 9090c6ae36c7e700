"""`LatencyPredictor`: microseconds of kernels and milliseconds of networks that were never timed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from compiler import KernelSpec, Target
from latency_model import artifact
from latency_model.accuracy import accuracy_figures, noise_figures
from latency_model.boosting import Boosting
from latency_model.conformal import conformal_quantile
from latency_model.device import Device
from latency_model.errors import InvalidMeasurement, TimesEmulated, TooFewMeasurements, UnknownKernel
from latency_model.features import Encoder, schedules, work
from latency_model.held_out import is_held_out
from latency_model.neighbourhood import Neighbourhood
from latency_model.network import NetworkModel, NetworkPrediction
from latency_model.roofline import Roofline
from latency_model.runner import Floats
from latency_model.store import specs_of

Kind = tuple[str, str, int]
"""Operation, element type and threads."""

COVERAGE = 0.9
MIN_KERNELS = 20
ANY = "any"
OF_ITS_OWN = 30
"""Kernels of an operation from which on its intervals rest on its own errors (Mondrian conformal prediction; Vovk et
al., 2005): changes of layout are predicted worse than convolutions, and would widen the intervals of these."""


@dataclass(frozen=True)
class KernelModel:
    """Everything that is fitted to single kernels.

    Attributes:
        encoder: features of a kernel.
        roofline: the analytic part.
        boosting: logarithm of measured over analytic.
        neighbourhood: the kernels fitted to, by their features.
        log_widths: half-width of the conformal interval of the logarithm for a kernel of remoteness 1, by operation;
            rare operations share that of `ANY`.
        measured: microseconds of the kernels fitted to. Asked for one of them, the answer is its own measurement;
            asked for a kind (operation, threads, element type) that is not among them, there is none.
    """

    encoder: Encoder
    roofline: Roofline
    boosting: Boosting
    neighbourhood: Neighbourhood
    log_widths: Mapping[str, float]
    measured: Mapping[KernelSpec, float]

    def predict(self, specs: Sequence[KernelSpec]) -> Floats:
        """Predicted microseconds, and half-width of the interval of their logarithm [len(specs), 2].

        The further a kernel is from all that were fitted to, the wider its interval.

        Raises:
            UnknownKernel: if a kernel is of a kind that was never measured.
        """
        for kind in dict.fromkeys(map(_kind, specs)):
            if kind not in self._kinds:
                known = "; ".join(sorted(_in_words(kind) for kind in self._kinds))
                raise UnknownKernel(
                    f"no {_in_words(kind)} was ever measured; measured are {known}. "
                    "Profile some kernels of that kind and fit again."
                )
        chosen = schedules(specs, self.encoder.target)
        features = self.encoder.encode(specs, chosen)
        analytic = self.roofline.us(work(chosen))
        modelled = analytic * np.exp(self.boosting.predict(features))
        us = [self.measured.get(spec, time) for spec, time in zip(specs, modelled.tolist(), strict=True)]
        widths = np.array([self.log_widths.get(spec.op, self.log_widths[ANY]) for spec in specs])
        return np.stack([us, widths * self.neighbourhood.remoteness(features)], axis=1)

    def disagreement(self, specs: Sequence[KernelSpec]) -> Floats:
        """How far the models that were fitted to different parts of the kernels are apart: deviation of the logarithm
        [len(specs)]."""
        return self.boosting.disagreement(self.encoder.encode(specs, schedules(specs, self.encoder.target)))

    @cached_property
    def _kinds(self) -> frozenset[Kind]:
        return frozenset(map(_kind, self.measured))


class LatencyPredictor:
    """Predicts latencies on one device.

    A kernel's time is a roofline times the exponential of gradient boosting on the logarithm of what the roofline
    leaves, or its own measurement if it was fitted to. Its interval is conformal with 90 % nominal coverage, from
    errors on kernels left out while fitting, in proportion to how remote a kernel is from all others (normalised
    conformal prediction; Papadopoulos et al., 2011). A network's time is a non-negative sum over the kernels that are
    really executed, plus an overhead.

    Predictions are remembered, so that asking again for a kernel costs a look-up.
    """

    def __init__(self, device: str, kernels: KernelModel, network: NetworkModel) -> None:
        self.device = device
        self.network = network
        self._kernels = kernels
        self._memory: dict[KernelSpec, tuple[float, float]] = {}

    @classmethod
    def fit(cls, table: pd.DataFrame, device: Device, seed: int = 0) -> LatencyPredictor:
        """Fit to measured kernels.

        Args:
            table: rows as `KernelStore.table` gives them; the rows of kernels that `is_held_out` names are left alone.
            device: where they were measured.
            seed: of the folds and of the boosting; the same seed and table give the same predictor.

        Raises:
            TimesEmulated: if the device is emulated.
            TooFewMeasurements: with fewer than 20 kernels to fit to.
            InvalidMeasurement: if a time is not positive and finite.
        """
        if device.runner.emulated:
            raise TimesEmulated(
                f"device {device.name} is emulated: its times are not those of the processor. Profile a real device; "
                "the emulator only shows that programs run and compute the right numbers."
            )
        specs, us = _training_rows(table)
        encoder = Encoder.of(specs, device.target)
        chosen = schedules(specs, device.target)
        amounts = work(chosen)
        roofline = Roofline.fit(amounts, us)
        residual = np.log(us / roofline.us(amounts))
        features = encoder.encode(specs, chosen)
        boosting, unseen = Boosting.fit(features, residual, seed)
        neighbourhood, remoteness = Neighbourhood.of(features)
        widths = _widths(specs, np.abs(unseen - residual) / remoteness)
        measured = dict(zip(specs, us.tolist(), strict=True))
        return cls(
            device.name, KernelModel(encoder, roofline, boosting, neighbourhood, widths, measured), NetworkModel()
        )

    def fit_networks(
        self, networks: Sequence[Sequence[KernelSpec]], measured_ms: Sequence[float] | Floats
    ) -> LatencyPredictor:
        """Fit scale and overhead of whole networks to some that were measured; returns this predictor.

        Args:
            networks: the kernels that each network executes.
            measured_ms: measured latency of each.

        Raises:
            TooFewMeasurements, InvalidMeasurement: see `NetworkModel.fit`.
            UnknownKernel: if a kernel is of a kind that was never measured.
        """
        sums = np.array([self._times(specs)[:, 0].sum() / 1e3 for specs in networks])
        self.network = NetworkModel.fit(sums, np.asarray(measured_ms, dtype=np.float64), COVERAGE)
        return self

    def predict(self, specs: Sequence[KernelSpec]) -> pd.DataFrame:
        """Predictions for kernels.

        Returns:
            `predicted_us`, `lower_us`, `upper_us`, one row a spec in the order given.

        Raises:
            UnknownKernel: if a kernel is of a kind that was never measured.
        """
        us, widths = self._times(specs).T
        factor = np.exp(widths)
        return pd.DataFrame({"predicted_us": us, "lower_us": us / factor, "upper_us": us * factor})

    def predict_network(self, specs: Sequence[KernelSpec]) -> NetworkPrediction:
        """Prediction for a network that executes `specs`.

        Raises:
            UnknownKernel: if a kernel is of a kind that was never measured.
        """
        us, widths = self._times(specs).T
        ends = (us, us / np.exp(widths), us * np.exp(widths))
        return self.network.predict(*(float(end.sum()) / 1e3 for end in ends))

    def accuracy(self, table: pd.DataFrame) -> pd.DataFrame:
        """Accuracy on the kernels of `table` that are held out of every fit.

        Returns:
            one row for all and one an operation, with the columns of `accuracy_figures` and `noise_figures`.

        Raises:
            TooFewMeasurements: if the table has no held-out kernel.
        """
        judged = self.judged(table)
        groups = [("all", judged), *judged.groupby("op")]
        return pd.DataFrame([{"op": op, **_figures(rows)} for op, rows in groups])

    def judged(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of kernels that are held out of every fit, with the columns of `predict` beside the measured ones.

        Raises:
            TooFewMeasurements: if the table has no held-out kernel.
        """
        specs = specs_of(table)
        held = np.array([is_held_out(spec) for spec in specs], dtype=bool)
        if not held.any():
            raise TooFewMeasurements(f"none of the {len(specs)} kernels given is held out; measure some that are")
        return pd.concat([table[held].reset_index(drop=True), self.predict(_pick(specs, held))], axis=1)

    def network_accuracy(
        self, networks: Sequence[Sequence[KernelSpec]], measured_ms: Sequence[float] | Floats
    ) -> pd.DataFrame:
        """Accuracy on measured networks, which must not be those that `fit_networks` was given.

        Returns:
            one row with the columns of `accuracy_figures`.
        """
        found = [self.predict_network(specs) for specs in networks]
        mean, lower, upper = np.array([[one.mean_ms, one.lower_ms, one.upper_ms] for one in found]).T
        return pd.DataFrame([accuracy_figures(mean, np.asarray(measured_ms, dtype=np.float64), lower, upper)])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the predictor into `folder` as JSON and LightGBM's text; no pickle."""
        kernels = self._kernels
        facts = {
            "device": self.device,
            "target": vars(kernels.encoder.target),
            "categories": kernels.encoder.categories,
            "roofline": vars(kernels.roofline),
            "log_widths": {op: artifact.number(width) for op, width in kernels.log_widths.items()},
            "measured": [{**spec.to_dict(), "us": us} for spec, us in kernels.measured.items()],
            "network": {key: artifact.number(value) for key, value in vars(self.network).items()},
        }
        artifact.save(folder, facts, kernels.boosting.texts)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LatencyPredictor:
        """Inverse of `save`; predictions are equal bit for bit.

        Raises:
            PredictorNotFound: if nothing was saved there.
            PredictorCorrupt: if a file is missing, cut off or altered.
        """
        return artifact.load(folder, cls._from_facts)

    @classmethod
    def _from_facts(cls, facts: Mapping[str, Any], texts: Sequence[str]) -> LatencyPredictor:
        target = Target(**{**facts["target"], "flags": tuple(facts["target"]["flags"])})
        categories = tuple((str(kind), str(value)) for kind, value in facts["categories"])
        encoder = Encoder(target, categories)
        measured = {KernelSpec.from_dict(row): float(row["us"]) for row in facts["measured"]}
        specs = list(measured)
        neighbourhood, _ = Neighbourhood.of(encoder.encode(specs, schedules(specs, target)))
        kernels = KernelModel(
            encoder,
            Roofline(**facts["roofline"]),
            Boosting(texts),
            neighbourhood,
            {str(op): float(width) for op, width in facts["log_widths"].items()},
            measured,
        )
        network = NetworkModel(**{key: float(value) for key, value in facts["network"].items()})
        return cls(str(facts["device"]), kernels, network)

    def disagreement(self, specs: Sequence[KernelSpec]) -> Floats:
        """See `KernelModel.disagreement`."""
        return self._kernels.disagreement(specs)

    def _times(self, specs: Sequence[KernelSpec]) -> Floats:
        """Microseconds and half-widths of the logarithm [len(specs), 2]."""
        new = [spec for spec in dict.fromkeys(specs) if spec not in self._memory]
        if new:
            self._memory.update(zip(new, map(tuple, self._kernels.predict(new).tolist()), strict=True))
        return np.array([self._memory[spec] for spec in specs], dtype=np.float64).reshape(-1, 2)


def _widths(specs: Sequence[KernelSpec], scores: Floats) -> dict[str, float]:
    """Conformal half-widths of each operation that is common enough, and of all together."""
    ops = np.array([spec.op for spec in specs])
    common = [op for op in sorted(set(ops.tolist())) if (ops == op).sum() >= OF_ITS_OWN]
    own = {op: conformal_quantile(scores[ops == op], COVERAGE) for op in common}
    return {**own, ANY: conformal_quantile(scores, COVERAGE)}


def _kind(spec: KernelSpec) -> Kind:
    return spec.op, spec.dtype, spec.threads


def _in_words(kind: Kind) -> str:
    op, dtype, threads = kind
    return f"{op} in {dtype} on {threads} thread(s)"


def _training_rows(table: pd.DataFrame) -> tuple[list[KernelSpec], Floats]:
    specs = specs_of(table)
    train = np.array([not is_held_out(spec) for spec in specs], dtype=bool)
    if train.sum() < MIN_KERNELS:
        raise TooFewMeasurements(
            f"{int(train.sum())} measured kernels may be trained on, at least {MIN_KERNELS} are needed; profile more"
        )
    us = table["median_us"].to_numpy(dtype=np.float64)[train]
    if not (np.isfinite(us) & (us > 0)).all():
        raise InvalidMeasurement("a measured time is not positive and finite")
    return _pick(specs, train), us


def _pick(specs: Sequence[KernelSpec], chosen: npt.NDArray[np.bool_]) -> list[KernelSpec]:
    return [spec for spec, keep in zip(specs, chosen, strict=True) if keep]


def _figures(rows: pd.DataFrame) -> dict[str, float]:
    columns = ("predicted_us", "median_us", "lower_us", "upper_us")
    predicted, measured, lower, upper = (rows[name].to_numpy(dtype=np.float64) for name in columns)
    return {
        **accuracy_figures(predicted, measured, lower, upper),
        **noise_figures(rows["noise"].to_numpy(dtype=np.float64)),
    }
