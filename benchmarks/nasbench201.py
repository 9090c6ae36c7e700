"""NAS-Bench-201 (Dong and Yang 2020, arXiv 2001.00326) under latencies measured on five devices (HELP, 2106.08630).

A cell has six edges, each with one of five operations: 15 625 cells. The table is a CSV file with the columns `op0` to
`op5`, `c10_val`, `c10_test` and `lat_<device>`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from supernet import Candidate, Choice, ChoiceSpace

OPERATIONS = ("none", "skip", "conv1x1", "conv3x3", "avg_pool3x3")
NODES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The edges of the cell, as pairs of its four nodes."""
DEVICES = ("pixel3", "2080ti_1", "gold_6226", "raspi4", "titan_rtx_256")

_CHOICES = tuple(Choice(operation) for operation in OPERATIONS)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Edge:
    """A site."""

    name: str


class CellSpace(ChoiceSpace):
    """Six sites of five choices each, and the graph that they form."""

    name = "NAS-Bench-201"
    sites = tuple(Edge(f"{start}>{end}") for start, end in NODES)
    _choices = (_CHOICES,) * len(NODES)

    def largest(self) -> Candidate:
        return Candidate((Choice("conv3x3"),) * len(NODES))

    def smallest(self, *, max_rate: float = math.inf) -> Candidate:
        return Candidate((Choice("none"),) * len(NODES))

    def labels(self, candidate: Candidate) -> list[str]:
        """The operations; `none` also for an edge that nothing comes to, or whose result goes nowhere."""
        edges = [(*nodes, choice.operator) for nodes, choice in zip(NODES, candidate.choices, strict=True)]
        reached, used = {NODES[0][0]}, {NODES[-1][1]}
        for start, end, operation in edges:
            if operation != "none" and start in reached:
                reached.add(end)
        for start, end, operation in reversed(edges):
            if operation != "none" and end in used:
                used.add(start)
        return [operation if start in reached and end in used else "none" for start, end, operation in edges]

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of sites of which one ends where the other starts."""
        numbered = list(enumerate(NODES))
        return tuple((i, j) for i, (_, end) in numbered for j, (start, _) in numbered if end == start)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "operations": list(OPERATIONS), "nodes": [list(pair) for pair in NODES]}

    def why_illegal(self, site: int, choice: Choice) -> str:
        return f"the operations are {', '.join(OPERATIONS)}"


@dataclass(frozen=True)
class Table:
    """What is known of every cell: arrays [5, 5, 5, 5, 5, 5], indexed by the operations of the six edges.

    Attributes:
        validation, test: accuracy on CIFAR-10 after 200 epochs, in percent points, means over the seeds trained.
        latency_ms: by device.
    """

    validation: Floats
    test: Floats
    latency_ms: dict[str, Floats]

    @classmethod
    def read(cls, path: Path) -> Table:
        """Read a CSV file, compressed or not.

        Raises:
            OSError: if there is no such file.
            KeyError: if a column is missing.
        """
        frame = pd.read_csv(path)
        where = tuple(frame[f"op{edge}"].to_numpy() for edge in range(len(NODES)))

        def grid(column: str) -> Floats:
            values = np.full((len(OPERATIONS),) * len(NODES), np.nan)
            values[where] = frame[column]
            return values

        return cls(grid("c10_val"), grid("c10_test"), {device: grid(f"lat_{device}") for device in DEVICES})
