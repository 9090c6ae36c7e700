"""Progress in a file: a line after each tenth of a task, if it takes long; on a terminal, bars alone."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from scripts import console


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What `time.monotonic` says; changed in place."""
    now = [1000.0]
    monkeypatch.setattr("scripts.console.time.monotonic", lambda: now[0])
    return now


def written(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    file = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=file, force_terminal=terminal, width=200))
    return file


def train(clock: list[float], epochs: int, seconds: float) -> None:
    with console.training_shown("winner 3", epochs) as show:
        for epoch in range(epochs):
            clock[0] += seconds
            show({"epoch": epoch + 1, "validation_accuracy": 50.0 + epoch})


def test_a_long_training_tells_a_file_of_each_tenth(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    file = written(monkeypatch, terminal=False)
    train(clock, 20, seconds=40)
    lines = [line.strip() for line in file.getvalue().splitlines() if " of " in line]
    assert lines == [f"winner 3, epoch {done} of 20: validation {49 + done}.0 %" for done in range(2, 20, 2)]


def test_lines_are_some_time_apart(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    file = written(monkeypatch, terminal=False)
    train(clock, 100, seconds=1)
    lines = [line.strip() for line in file.getvalue().splitlines() if " of " in line]
    assert [line.split(":")[0] for line in lines] == [f"winner 3, epoch {done} of 100" for done in (31, 61, 91)]


@pytest.mark.parametrize(("terminal", "seconds"), [(False, 0.5), (True, 100)])
def test_short_ones_and_terminals_have_the_bar_alone(
    monkeypatch: pytest.MonkeyPatch, clock: list[float], terminal: bool, seconds: float
) -> None:
    file = written(monkeypatch, terminal=terminal)
    train(clock, 20, seconds)
    assert " of 20" not in file.getvalue()
    assert "20/20" in file.getvalue()
    assert "validation 69.0 %" in file.getvalue()
