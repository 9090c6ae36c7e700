"""The report's main table for the terminal."""

from __future__ import annotations

from rich.table import Table

from scripts.metrics import Metrics
from scripts.report.contents import Contents


def table(contents: Contents) -> Table:
    """Dense network and winners with measured latencies; the best one in bold, those over budget dimmed."""
    limits = ", ".join(f"{limit:.3f}" for limit in contents.limits_ms)
    table = Table(title=f"{contents.config.data.name}, budget {contents.budget} = {limits} ms")
    table.add_column("network")
    for heading in ("test %", "ms", "% of dense", "in budget", "same in ONNX RT, ms", "vs dense in ONNX RT"):
        table.add_column(heading, justify="right")
    for network in (contents.dense, *contents.winners):
        table.add_row(*_cells(network), style=_style(network, contents))
    return table


def _cells(network: Metrics) -> tuple[str, ...]:
    dense = network.name == "dense"
    return (
        network.name,
        f"{network.test_accuracy:.2f}",
        f"{network.measured_ms:.3f}",
        f"{100 * network.measured_ms / network.dense_ms:.0f}",
        "–" if dense else "yes" if network.within_budget else "no",
        f"{network.onnxruntime_ms:.3f}",
        f"{network.onnxruntime_dense_ms / network.measured_ms:.2f}×",
    )


def _style(network: Metrics, contents: Contents) -> str:
    if contents.best is not None and network.name == contents.best.name:
        return "bold green"
    return "" if network.within_budget or network.name == "dense" else "dim"
