"""The predictor's accuracy as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table

HEADINGS: Mapping[str, str] = {
    "op": "kernels",
    "count": "count",
    "within_5": "within 5 %",
    "within_10": "within 10 %",
    "rmspe": "error, %",
    "spearman": "rank correlation",
    "kendall": "Kendall's",
    "covered": "inside interval, %",
    "noise_within_10": "repeats within 10 %",
    "noise_rmspe": "repeats, error, %",
}
"""Columns that are shown; `repeats` is how far measuring the same kernel again differs: nothing can be better."""


WORST = 10
WORST_HEADINGS = ("kernel", "pruning", "behind it", "measured, us", "predicted, us", "error, %", "repeats, %")


def cells(accuracy: pd.DataFrame) -> list[list[str]]:
    """The rows of the predictor's accuracy in the order of `HEADINGS`, a dash for what is not known."""
    return [[_cell(row.get(column)) for column in HEADINGS] for row in accuracy.to_dict("records")]


def terminal_table(accuracy: pd.DataFrame) -> Table:
    """The same for the terminal, where only some columns have room."""
    shown = ("op", "count", "within_5", "within_10", "spearman", "noise_within_10")
    table = Table(title="latency predictor on what it never saw, percent of cases")
    for column in shown:
        table.add_column(HEADINGS[column], justify="left" if column == "op" else "right")
    for row in _only(accuracy, shown).to_dict("records"):
        table.add_row(*(_cell(row[column]) for column in shown))
    return table


def worst_cells(judged: pd.DataFrame) -> list[list[str]]:
    """The kernels with the largest relative errors, in the order of `WORST_HEADINGS`, the worst first."""
    error = judged["predicted_us"] / judged["median_us"] - 1
    worst = judged.assign(error=error, size=error.abs()).nlargest(WORST, "size")
    return [_worst(row) for row in worst.to_dict("records")]


def worst_table(judged: pd.DataFrame) -> Table:
    """The same for the terminal."""
    table = Table(title=f"the {WORST} kernels that are predicted worst", box=None, padding=(0, 2, 0, 0))
    for heading in WORST_HEADINGS:
        table.add_column(heading, justify="right" if "," in heading else "left", overflow="fold")
    for row in worst_cells(judged):
        table.add_row(*row)
    return table


def _worst(row: Mapping[Any, Any]) -> list[str]:
    shape = f"{row['in_channels']}>{row['out_channels']} {row['kernel_h']}x{row['kernel_w']}"
    layout = "" if row["reads"] == row["writes"] == "blocked" else f" {row['reads']}>{row['writes']}"
    return [
        f"{row['op']} {shape} @{row['height']}x{row['width']} stride {row['stride_h']}{layout}",
        "dense" if row["rate"] == 1 else f"{row['scheme']} {row['rate']:.3g}x",
        row["epilogue"] or "–",
        _cell(row["median_us"]),
        _cell(row["predicted_us"]),
        f"{100 * row['error']:+.1f}",
        _cell(None if pd.isna(row["noise"]) else 100 * row["noise"]),
    ]


def _only(accuracy: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    return accuracy.reindex(columns=list(columns))


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "–" if value is None or pd.isna(value) else f"{value:.3g}"
