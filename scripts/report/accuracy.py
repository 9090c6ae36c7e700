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
    "covered": "inside interval, %",
    "noise_within_10": "repeats within 10 %",
    "noise_rmspe": "repeats, error, %",
}
"""Columns that are shown; `repeats` is how far measuring the same kernel again differs: nothing can be better."""


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


def _only(accuracy: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    return accuracy.reindex(columns=list(columns))


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "–" if value is None or pd.isna(value) else f"{value:.3g}"
