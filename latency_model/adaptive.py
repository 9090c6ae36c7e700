"""Timing where it teaches most: kernels that cover the space first, then those that the predictor is least sure of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from compiler import KernelSpec
from latency_model.device import Device
from latency_model.held_out import is_held_out
from latency_model.predictor import LatencyPredictor
from latency_model.profile import ProfileProgress, profile
from latency_model.runner import Floats
from latency_model.sampling import choose_kernels
from latency_model.store import KernelStore, specs_of

BATCH = 100
"""Kernels that are chosen at once."""
WIDEST = 0.9
"""Quantile of the disagreement over kernels not timed yet that is compared with the noise."""


@dataclass(frozen=True)
class AdaptiveProgress:
    """How far an adaptive profile is.

    Attributes:
        kernels, of_kernels: kernels that need no further network, and all that there are to choose from.
        error: median relative error on the kernels that are held out, NaN before the first fit.
        noise: median relative standard error of a measured time, NaN before the first fit.
        disagreement: how far the models are apart on kernels not timed yet, NaN before the first fit.
        seconds, left_s: time spent and left.
    """

    kernels: int
    of_kernels: int
    error: float
    noise: float
    disagreement: float
    seconds: float
    left_s: float


def profile_adaptively(
    pool: Iterable[KernelSpec],
    device: Device,
    store: KernelStore,
    *,
    first: int,
    held_out: int,
    limit_s: float,
    seconds: float = 0.4,
    seed: int = 0,
    progress: Callable[[AdaptiveProgress], None] | None = None,
) -> pd.DataFrame:
    """Time kernels of a search space until nothing is left of them, the time is over, or more would not help.

    The first kernels and those to judge by are chosen by `choose_kernels`. Then, a hundred at a time, those follow on
    which the models that were fitted to different parts of the measured kernels disagree most. More does not help once
    the models disagree on nine tenths of the other kernels by less than measuring the same kernel again would.

    Args:
        pool: kernels that occur in the space; repetitions count once.
        device: where to time them.
        store: where to keep the times; what it already holds for this environment is not timed again.
        first: kernels to begin with.
        held_out: kernels to judge by, never trained on.
        limit_s: stop after this time.
        seconds: time to run each small network.
        seed: of all choices.
        progress: called after each small network and after each fit.

    Returns:
        the rows of `KernelStore.table` for all kernels that were chosen.

    Raises:
        MeasurementFailed, StoreCorrupt: see `profile`.
        TooFewMeasurements: if the time was over before there was enough to fit to.
    """
    begin = time.monotonic()
    distinct = list(dict.fromkeys(pool))
    selection = choose_kernels(distinct, device.target, train=first, held_out=held_out, seed=seed)
    wanted = list(selection.specs)
    chosen = set(wanted)
    rest = [spec for spec in distinct if not is_held_out(spec) and spec not in chosen]
    state = _State(len(wanted) + len(rest), begin, limit_s, progress)
    while True:
        table = profile(
            wanted,
            device,
            store,
            seconds=seconds,
            limit_s=max(0.0, begin + limit_s - time.monotonic()),
            seed=seed,
            progress=state.timed,
        )
        predictor = LatencyPredictor.fit(table, device, seed)
        unsure = predictor.disagreement(rest) if rest else np.zeros(0)
        state.fitted(predictor, table, unsure)
        if not rest or time.monotonic() - begin >= limit_s or state.disagreement <= state.noise:
            return table
        order = np.argsort(-unsure, kind="stable")
        wanted += [rest[index] for index in order[:BATCH]]
        rest = [rest[index] for index in np.sort(order[BATCH:])]


class _State:
    """What the progress display is told."""

    def __init__(
        self, of_kernels: int, begin: float, limit_s: float, tell: Callable[[AdaptiveProgress], None] | None
    ) -> None:
        self.kernels = 0
        self.error = self.noise = self.disagreement = float("nan")
        self._of_kernels = of_kernels
        self._begin = begin
        self._limit_s = limit_s
        self._tell = tell

    def timed(self, progress: ProfileProgress) -> None:
        self.kernels = progress.kernels
        self._say()

    def fitted(self, predictor: LatencyPredictor, table: pd.DataFrame, unsure: Floats) -> None:
        judges = table[np.array([is_held_out(spec) for spec in specs_of(table)], dtype=bool)]
        if len(judges):
            predicted = predictor.predict(specs_of(judges))["predicted_us"].to_numpy()
            self.error = float(np.median(np.abs(predicted / judges["median_us"].to_numpy() - 1)))
        noise = table["noise"].dropna()
        self.noise = float(noise.median()) if len(noise) else 0.0
        self.disagreement = float(np.quantile(unsure, WIDEST)) if len(unsure) else 0.0
        self._say()

    def _say(self) -> None:
        if self._tell is None:
            return
        spent = time.monotonic() - self._begin
        self._tell(
            AdaptiveProgress(
                kernels=self.kernels,
                of_kernels=self._of_kernels,
                error=self.error,
                noise=self.noise,
                disagreement=self.disagreement,
                seconds=spent,
                left_s=max(0.0, self._limit_s - spent),
            )
        )
