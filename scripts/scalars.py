"""The curves of a search for TensorBoard, in the folder `tensorboard/` of its run directory."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from search import Evaluation, SearchResult
from search.errors import NothingFound

FOLDER = "tensorboard"
FLUSH_S = 10


@contextmanager
def scalars(run_dir: Path) -> Iterator[Scalars]:
    """Writes the curves while a search runs; those that are there are taken away first."""
    folder = run_dir / FOLDER
    if folder.exists():
        shutil.rmtree(folder)
    with SummaryWriter(str(folder), flush_secs=FLUSH_S) as writer:
        yield Scalars(writer)


class Scalars:
    """Curves over the evaluations that succeeded: accuracy [%] and predicted latency [ms] of each, the best accuracy
    so far under each budget [%], and the hypervolume so far [% ms].

    The study tells all of them, so they are written anew when a search goes on: one that was killed leaves no gap.
    """

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def start(self, found: SearchResult) -> None:
        """See `View`."""
        trials, progress = found.evaluated, found.progress
        for row, step in enumerate(trials.index + 1):
            trial, so_far = trials.iloc[row], progress.iloc[row]
            best = {ms: float(so_far[ms]) for ms in found.budgets_ms}
            self._write(step, trial["accuracy"], trial["predicted_ms"], best, so_far["hypervolume"])

    def show(self, evaluation: Evaluation, found: SearchResult) -> None:
        """See `View`."""
        if evaluation.failure is None:
            best = {ms: _best(found, ms) for ms in found.budgets_ms}
            self._write(evaluation.done, evaluation.accuracy, evaluation.predicted_ms, best, found.hypervolume)

    def _write(
        self, step: int, accuracy: float, predicted_ms: float, best: Mapping[float, float], hypervolume: float
    ) -> None:
        for name, value in {
            "candidate/accuracy": accuracy,
            "candidate/predicted_ms": predicted_ms,
            **{f"best/under_{ms:.4g}_ms": value for ms, value in best.items() if not math.isnan(value)},
            "front/hypervolume": hypervolume,
        }.items():
            self._writer.add_scalar(name, value, step)


def _best(found: SearchResult, budget_ms: float) -> float:
    try:
        return found.best_under(budget_ms).accuracy
    except NothingFound:
        return math.nan
