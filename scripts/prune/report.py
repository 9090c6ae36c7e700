"""The last stage of `npas prune`: `report.html` and a table of layers on the terminal."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from scripts.console import console, say
from scripts.files import write_text
from scripts.machine import describe_machine
from scripts.prune.measured import LayerMetrics, PruneMetrics
from scripts.prune.planned import Planned
from scripts.prune.statements import next_steps, shortfalls, summary

HEADINGS = ("layer", "scheme and rate", "weights", "kept", "predicted,\nms", "measured,\nms", "why dense")
_WORDS = frozenset({"layer", "scheme and rate", "why dense"})


def run(config: DictConfig, run_dir: Path) -> None:
    """Write the report of a network that is measured."""
    metrics, planned = PruneMetrics.read(run_dir / "metrics.json"), Planned.read(run_dir / "plan.json")
    page = Environment(loader=PackageLoader("scripts.prune", "."), autoescape=True, undefined=StrictUndefined)
    html = page.get_template("report.html").render(
        metrics=metrics,
        planned=planned,
        summary=summary(metrics),
        shortfalls=shortfalls(metrics),
        next_steps=next_steps(run_dir),
        headings=HEADINGS,
        words=_WORDS,
        rows=[_cells(layer) for layer in metrics.layers],
        machine=describe_machine(),
        configuration=OmegaConf.to_yaml(config, resolve=True),
    )
    write_text(run_dir / "report.html", html)
    console.print(layer_table(metrics))
    for layer in metrics.layers:
        if layer.skipped:
            say(f"{layer.name} stays dense: {layer.skipped}")
    console.print(summary(metrics))
    for sentence in shortfalls(metrics):
        say(f"Not achieved: {sentence}")
    say(f"Report: {run_dir / 'report.html'}")
    for purpose, command in next_steps(run_dir):
        say(f"Next, {purpose}: {command}")


def layer_table(metrics: PruneMetrics) -> Table:
    """A convolution or linear layer a row, without the reasons; predicted and measured times have their own columns."""
    title = "layers" if metrics.budget_ms is None else f"layers, budget {metrics.budget_ms:.3f} ms"
    table = Table(title=title, box=None, padding=(0, 2, 0, 0))
    table.add_column(HEADINGS[0], overflow="fold")
    for heading in HEADINGS[1:-1]:
        table.add_column(heading, justify="left" if heading in _WORDS else "right", no_wrap=heading in _WORDS)
    for layer in metrics.layers:
        table.add_row(*_cells(layer)[:-1], style="" if layer.skipped == "" else "dim")
    return table


def _cells(layer: LayerMetrics) -> tuple[str, ...]:
    times = ("–" if ms is None else f"{ms:.4f}" for ms in (layer.predicted_ms, layer.measured_ms))
    return (layer.name, layer.sparsity, f"{layer.weights:,}", f"{layer.kept:,}", *times, layer.skipped)
