"""Which candidates are tried as winners, in which order, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import pandas as pd

from scripts.errors import RecordCorrupt
from scripts.files import read_json, write_json
from search import pareto_front

_STEP = 5 / 6


@dataclass(frozen=True)
class Entry:
    """A candidate that was measured before its fine-tune; all latencies in milliseconds, accuracies in percent.

    `measured_ms` and `budget_ms` come from one run, side by side with the dense network. `budget_ms` is the smallest
    budget that the candidate meets, or the largest where it meets none; `budget` its index, from the largest. `winner`
    is the number of its folder, and `validation_accuracy` that of the fine-tuned network; both are None for a candidate
    that was left out.
    """

    candidate: str
    supernet_accuracy: float
    predicted_ms: float
    measured_ms: float
    dense_ms: float
    budget_ms: float
    budget: int
    within_budget: bool
    winner: int | None = None
    validation_accuracy: float | None = None

    @property
    def share_of_dense(self) -> float:
        """Comparable between entries that were measured at different times, as the machine's speed drops out of it."""
        return self.measured_ms / self.dense_ms


class Shortlist:
    """Entries in the order in which they were tried, kept in a JSON file."""

    def __init__(self, path: Path) -> None:
        """Raises `RecordCorrupt` if the file is there and damaged."""
        self.path = path
        try:
            self.entries = [Entry(**entry) for entry in read_json(path)] if path.exists() else []
        except TypeError as error:
            raise RecordCorrupt(path, str(error)) from error

    @property
    def taken(self) -> list[Entry]:
        """Entries that were fine-tuned."""
        return [entry for entry in self.entries if entry.winner is not None]

    def find(self, candidate: str) -> Entry | None:
        """The entry of a candidate, given as JSON."""
        return next((entry for entry in self.entries if entry.candidate == candidate), None)

    def add(self, entry: Entry) -> None:
        """Append an entry."""
        self._keep([*self.entries, entry])

    def take(self, entry: Entry, winner: int, validation_accuracy: float) -> None:
        """Note that an entry was fine-tuned as winner number `winner`."""
        taken = replace(entry, winner=winner, validation_accuracy=validation_accuracy)
        self._keep([taken if other == entry else other for other in self.entries])

    def complete(self, *, at_least: int, at_most: int, pareto: int, budgets: int = 1) -> bool:
        """Whether enough were fine-tuned, `pareto` of them are not dominated by another one, and one meets the smallest
        of `budgets`, and so all of them."""
        if len(self.taken) < at_least:
            return False
        frame = pd.DataFrame(
            {"accuracy": entry.validation_accuracy, "share": entry.share_of_dense} for entry in self.taken
        )
        front = pareto_front(frame, maximise="accuracy", minimise="share")
        served = any(entry.budget == budgets - 1 for entry in self.taken)
        return (len(front) >= pareto and served) or len(self.taken) >= at_most

    def _keep(self, entries: list[Entry]) -> None:
        write_json(self.path, [asdict(entry) for entry in entries])
        self.entries = entries


def preference(trials: pd.DataFrame, limits_ms: Sequence[float]) -> list[int]:
    """Rows of `trials` (columns `accuracy` and `predicted_ms`, one row a candidate), each once, the first to try first.

    The most accurate under each limit lead, the largest limit first. Down the Pareto front follow those that are at
    least a sixth faster than the one before, so that a few winners span it instead of repeating each other. The rest
    comes by accuracy.
    """
    ranked = trials.sort_values(["accuracy", "predicted_ms"], ascending=[False, True], kind="stable").index.tolist()
    front = pareto_front(trials, maximise="accuracy", minimise="predicted_ms").index
    leaders = [[row for row in ranked if trials["predicted_ms"][row] <= limit][:1] for limit in sorted(limits_ms)[::-1]]
    spanning: list[int] = []
    for row in (row for row in ranked if row in front):
        if not spanning or trials["predicted_ms"][row] <= _STEP * trials["predicted_ms"][spanning[-1]]:
            spanning.append(row)
    return list(dict.fromkeys([*chain.from_iterable(leaders), *spanning, *ranked]))
