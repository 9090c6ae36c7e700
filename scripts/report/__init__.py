"""The last stage: `report.html`, `pareto.png` and a table on the terminal."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from scripts.console import console, say
from scripts.files import write_bytes, write_text
from scripts.report import figures
from scripts.report.contents import Contents
from scripts.report.learned import learned
from scripts.report.page import page
from scripts.report.statements import next_steps, shortfalls, summary
from scripts.report.terminal import table

__all__ = ["run"]


def run(config: DictConfig, run_dir: Path) -> None:
    """Write the report of a run whose networks are measured."""
    contents = Contents.read(run_dir)
    write_bytes(run_dir / "pareto.png", figures.pareto(contents))
    write_text(run_dir / "report.html", page(contents, run_dir, learned(config, run_dir, contents.trials)))
    console.print(table(contents))
    console.print(summary(contents))
    for sentence in shortfalls(contents):
        say(f"Not achieved: {sentence}")
    say(f"Report: {run_dir / 'report.html'}")
    for purpose, command in next_steps(contents, run_dir):
        say(f"Next, {purpose}: {command}")
