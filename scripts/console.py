"""The terminal: one rich console, progress bars on it, and errors as one panel."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

QUIET_S = 30.0
"""Seconds between two lines about a task, at least, where the output is a file."""

FILE_WIDTH = 120
"""Columns of what is written to a file, unless COLUMNS says otherwise."""

console = Console(highlight=False)
if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = FILE_WIDTH
errors = Console(stderr=True, highlight=False)
_log = logging.getLogger("npas")
_log.addHandler(logging.NullHandler())


def say(text: str) -> None:
    """One plain line for the person at the terminal, and the same in the log."""
    console.print(escape(text), soft_wrap=True)
    _log.info(text)


def show_error(error: BaseException) -> None:
    """A named error as one panel: its message says what was found, what is allowed and what to do next."""
    message = Text(str(error), overflow="fold")
    errors.print(Panel(message, title=type(error).__name__, title_align="left", border_style="red"))
    _log.error("%s: %s", type(error).__name__, error)


class _Bars(Progress):
    """Progress bars; where the output is a file, a line after each tenth of a task that takes long."""

    def __init__(self, *columns: TextColumn | BarColumn | MofNCompleteColumn | TimeElapsedColumn) -> None:
        super().__init__(*columns, console=console)
        self._told = dict[TaskID, tuple[int, float]]()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        if not console.is_terminal:
            self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task, now = self._tasks[task_id], time.monotonic()
        before, told_at = self._told.setdefault(task_id, (0, now))
        tenth = int(10 * task.completed / task.total) if task.total else 0
        if before < tenth < 10 and now - told_at >= QUIET_S:
            self._told[task_id] = tenth, now
            counted = f"{task.description} {task.completed:.0f} of {task.total:.0f}"
            say(": ".join(filter(None, (f"  {counted}", str(task.fields.get("note", ""))))))


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar; the field `note` of a task is shown behind it."""
    with _Bars(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    ) as bar:
        yield bar


@contextmanager
def training_shown(what: str, epochs: int) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A bar for a training of so many epochs; what it gives takes each row of the history of `fit`."""
    with progress() as bar:
        task = bar.add_task(f"{what}, epoch", total=epochs, note="")
        yield lambda row: bar.update(task, advance=1, note=f"validation {row['validation_accuracy']:.1f} %")


class _Shown(logging.Handler):
    """Writes the message of a record to the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(escape(record.getMessage()), style="yellow", soft_wrap=True)


@contextmanager
def warnings_shown(package: str) -> Iterator[None]:
    """What the loggers of `package` warn of also goes to the terminal."""
    handler, logger = _Shown(logging.WARNING), logging.getLogger(package)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
