"""`LatencyPredictor`: microseconds of kernels and milliseconds of networks that were never timed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from compiler import KernelSpec
from latency_model import artifact
from latency_model.accuracy import accuracy_figures, noise_figures
from latency_model.device import Device
from latency_model.errors import InvalidMeasurement, TimesEmulated, TooFewMeasurements
from latency_model.held_out import is_held_out
from latency_model.kernel_model import COVERAGE, KernelModel
from latency_model.kernel_transfer import Source, Transfer, TransferredKernels, transfer
from latency_model.network import NetworkModel, NetworkPrediction
from latency_model.runner import Floats
from latency_model.store import specs_of

MIN_KERNELS = 20


class LatencyPredictor:
    """Predicts latencies on one device.

    A kernel's time is a roofline times the exponential of gradient boosting on the logarithm of what the roofline
    leaves, or its own measurement if it was fitted to. Its interval is conformal with 90 % nominal coverage, from
    errors on kernels left out while fitting, in proportion to how remote a kernel is from all others (normalised
    conformal prediction; Papadopoulos et al., 2011). Outside of the range of what was measured it grows with the square
    root of the distance, as fast as it must for whole sorts of kernels that are left out. A network's time is a
    non-negative sum over the kernels that are really executed, plus an overhead.

    Predictions are remembered, so that asking again for a kernel costs a look-up.
    """

    def __init__(self, device: str, kernels: Source, network: NetworkModel) -> None:
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
        _require_real(device)
        specs, us = _training_rows(table, MIN_KERNELS)
        return cls(device.name, KernelModel.fit(specs, us, device.target, seed), NetworkModel())

    @classmethod
    def transfer(
        cls, table: pd.DataFrame, device: Device, sources: Sequence[LatencyPredictor], seed: int = 0
    ) -> tuple[LatencyPredictor, Transfer]:
        """A predictor for a device of which little was measured, from those of other devices.

        Args:
            table, device, seed: see `fit`; a table without any row is enough.
            sources: predictors of other devices, at least one.

        Returns:
            it, and how it came about.

        Raises:
            TimesEmulated, InvalidMeasurement: see `fit`.
            UnknownKernel: see `kernel_transfer.transfer`.
        """
        _require_real(device)
        specs, us = _training_rows(table, 0)
        kernels = [source._kernels for source in sources]
        sheet = {"cycle_us": device.cycle_us, "byte_us": device.byte_us}
        found = transfer(specs, us, device.target, kernels, **sheet, seed=seed)
        return cls(device.name, found.kernels, NetworkModel()), found

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
        """Write the predictor into `folder` as JSON and LightGBM's text; no pickle.

        Sources lie in folders with names of their own, so whoever is killed in between leaves the earlier predictor as
        it was.
        """
        facts = {
            "device": self.device,
            **self._kernels.to_facts(),
            "network": {key: artifact.number(value) for key, value in vars(self.network).items()},
        }
        names = []
        if isinstance(self._kernels, KernelModel):
            artifact.save(folder, facts, self._kernels.boosting.texts)
        else:
            for source in self._kernels.sources:
                names.append(f"source-{uuid.uuid4().hex}")
                LatencyPredictor(f"source of {self.device}", source, NetworkModel()).save(Path(folder) / names[-1])
            artifact.save(folder, {**facts, "sources": names}, ())
        for old in Path(folder).glob("source-*"):
            if old.name not in names:
                shutil.rmtree(old)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LatencyPredictor:
        """Inverse of `save`; predictions are equal bit for bit.

        Raises:
            PredictorNotFound: if nothing was saved there.
            PredictorCorrupt: if a file is missing, cut off or altered.
        """
        return artifact.load(folder, partial(cls._from_facts, Path(folder)))

    @classmethod
    def _from_facts(cls, folder: Path, facts: Mapping[str, Any], texts: Sequence[str]) -> LatencyPredictor:
        kernels: Source
        if "shares" in facts:
            sources = [cls.load(folder / name)._kernels for name in facts["sources"]]
            kernels = TransferredKernels.from_facts(facts, sources)
        else:
            kernels = KernelModel.from_facts(facts, texts)
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


def _require_real(device: Device) -> None:
    if device.runner.emulated:
        raise TimesEmulated(
            f"device {device.name} is emulated: its times are not those of the processor. Profile a real device; "
            "the emulator only shows that programs run and compute the right numbers."
        )


def _training_rows(table: pd.DataFrame, least: int) -> tuple[list[KernelSpec], Floats]:
    specs = specs_of(table)
    train = np.array([not is_held_out(spec) for spec in specs], dtype=bool)
    if train.sum() < least:
        raise TooFewMeasurements(
            f"{int(train.sum())} measured kernels may be trained on, at least {least} are needed; profile more"
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
