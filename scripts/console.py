"""The terminal: one rich console, progress bars on it, and errors as one panel."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

console = Console(highlight=False)
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


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar; the field `note` of a task is shown behind it."""
    with Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    ) as bar:
        yield bar


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
