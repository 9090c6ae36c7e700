"""What `npas search` shows while it searches: a display that changes in place, or plain lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from scripts.console import console, say
from search import Evaluation, SearchResult
from search.errors import NothingFound

LOOKING = "how far each choice moves the outputs"
LINES = 10
"""Of a whole search, where there is no terminal."""


class View(Protocol):
    """Something that shows how a search goes."""

    def look(self, done: int, sites: int) -> None:
        """How many sites are done while it is told what choices do to the outputs, before all else."""

    def start(self, found: SearchResult) -> None:
        """What was there before the search was started."""

    def show(self, evaluation: Evaluation, found: SearchResult) -> None:
        """One evaluation, and all that is found with it."""


@contextmanager
def live_view(trials: int) -> Iterator[View]:
    """The view that suits the console, for a search of so many evaluations."""
    if not console.is_terminal:
        yield PlainLines(trials)
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield Display(trials, live)


class Clock:
    """How long the evaluations that are left will take if they take as long as those since the start."""

    def __init__(self, done: int) -> None:
        self._done = done
        self._start = time.monotonic()

    def left(self, done: int, trials: int) -> str:
        """In words; empty if nothing is left."""
        if done >= trials or done <= self._done:
            return ""
        seconds = (trials - done) * (time.monotonic() - self._start) / (done - self._done)
        return f"about {timedelta(seconds=round(seconds))} left"


class Display:
    """A bar, the best under each budget, and what else is known, in place."""

    def __init__(self, trials: int, live: Live) -> None:
        self._live = live
        self._bar = Progress(
            TextColumn("  candidates"), BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
        )
        self._task = self._bar.add_task("", total=trials, left="")
        self._clock = Clock(0)

    def look(self, done: int, sites: int) -> None:
        self._live.update(Text(f"  {LOOKING}: {done} of {sites} sites"))

    def start(self, found: SearchResult) -> None:
        self._clock = Clock(len(found.trials))
        self._bar.update(self._task, completed=len(found.trials))
        self._live.update(Group(self._bar, *_indented(bests(found))))

    def show(self, evaluation: Evaluation, found: SearchResult) -> None:
        left = self._clock.left(evaluation.done, evaluation.trials)
        self._bar.update(self._task, completed=evaluation.done, left=left)
        lines = [*bests(found), outlook(evaluation, found), f"candidate {evaluation.number}: {_outcome(evaluation)}"]
        self._live.update(Group(self._bar, *_indented(lines)))


class PlainLines:
    """A line at the start, and one at each tenth of the search; all of them in the log, too."""

    def __init__(self, trials: int) -> None:
        self._trials = trials
        self._clock = Clock(0)
        self._told = 0

    def look(self, done: int, sites: int) -> None:
        if done == 1:
            say(f"{LOOKING} of {sites} sites")

    def start(self, found: SearchResult) -> None:
        done = len(found.trials)
        self._clock, self._told = Clock(done), LINES * done // self._trials
        if done:
            say("; ".join([f"{done} of {self._trials} candidates are there", *bests(found)]))

    def show(self, evaluation: Evaluation, found: SearchResult) -> None:
        reached = LINES * evaluation.done // evaluation.trials
        if reached > self._told:
            self._told = reached
            counted = f"{evaluation.done} of {evaluation.trials} candidates"
            left = self._clock.left(evaluation.done, evaluation.trials)
            say("; ".join(filter(None, [counted, *bests(found), outlook(evaluation, found), left])))


def bests(found: SearchResult) -> list[str]:
    """The best under each budget, in words, the largest budget first."""
    return [f"under {budget_ms:.3f} ms: {_best(found, budget_ms)}" for budget_ms in found.budgets_ms]


def outlook(evaluation: Evaluation, found: SearchResult) -> str:
    """The front, and what was not evaluated or failed, in words."""
    failed = int(found.trials["failure"].notna().sum())
    return ", ".join(
        [
            f"front of {len(found.pareto)}",
            f"hypervolume {found.hypervolume:.4g} % ms",
            f"{evaluation.rejected} rejected by the budget",
            *([f"{failed} failed"] if failed else []),
        ]
    )


def _best(found: SearchResult, budget_ms: float) -> str:
    try:
        best = found.best_under(budget_ms)
    except NothingFound:
        return "nothing yet"
    return f"best {best.accuracy:.1f} % at {best.predicted_ms:.3f} ms predicted"


def _outcome(evaluation: Evaluation) -> str:
    if evaluation.failure is not None:
        return f"failed, {evaluation.failure}"
    return f"{evaluation.accuracy:.1f} % at {evaluation.predicted_ms:.3f} ms predicted"


def _indented(lines: list[str]) -> list[Text]:
    return [Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in lines]
