"""Published latencies of networks as sums over terms: NAS-Bench-201 and the space of FBNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from benchmarks.errors import ResultsMissing
from latency_model.runner import Floats
from latency_model.term_sum import Ints, TermSum
from latency_model.transfer import Mode, choose, network_modes

SAMPLES = (10, 50, 100, 300)
FULL_STRENGTH = 1e-2

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Edges of NAS-Bench-201's cell in the order of its operator codes."""
OPERATORS = (1, 2, 3, 4)
"""Skip, 1x1 and 3x3 convolution, average pool."""
ZERO = 0
"""No edge; a runtime that does not simplify the cell multiplies by zero there, which takes its time too."""
BLOCKS, BLOCK_CODES = 22, 9


@dataclass(frozen=True)
class PublicTable:
    """Networks, and their latency on several devices.

    Attributes:
        name: of the table.
        views: counts of terms [networks, terms], one for each idea of what a runtime executes, with the groups [terms].
        latencies: milliseconds, a column a device.
    """

    name: str
    views: tuple[tuple[Floats, Ints], ...]
    latencies: pd.DataFrame


def nasbench201(path: Path) -> PublicTable:
    """All networks whose output depends on their input (15,284 of 15,625).

    Two views: all operators of the cell, and those that its output needs; which of them a runtime executes is for
    the measured networks to say.
    """
    table = _read(path)
    codes = table[[f"op{edge}" for edge in range(len(EDGES))]].to_numpy(np.int64)
    connected = np.array([reaches(row) for row in codes])
    table, codes = table[connected], codes[connected]
    return PublicTable("NAS-Bench-201", cell_views(codes), _latencies(table))


def cell_views(codes: Ints) -> tuple[tuple[Floats, Ints], ...]:
    """The two views of cells [cells, edges]: see `PublicTable.views`."""
    needed = np.array([_needed(row) for row in codes])
    executed = [_counts(codes, (ZERO, *OPERATORS)), _counts(needed, OPERATORS)]
    return tuple((counts, np.arange(counts.shape[1])) for counts in executed)


def fbnet(path: Path) -> PublicTable:
    """Networks of 22 blocks: a term is an operator in one of the blocks, its group the operator."""
    table = _read(path)
    codes = table[[f"b{block}" for block in range(BLOCKS)]].to_numpy(np.int64)
    counts = np.concatenate([(codes == code).astype(np.float64) for code in range(BLOCK_CODES)], axis=1)
    return PublicTable("FBNet", ((counts, np.repeat(np.arange(BLOCK_CODES), BLOCKS)),), _latencies(table))


def evaluate(table: PublicTable, *, samples: Sequence[int] = SAMPLES, seeds: int = 10) -> pd.DataFrame:
    """Accuracy on all networks that were not sampled, the mean of several draws of the sample.

    Returns:
        a row for each device, number of samples, and use of the other devices (`alone` or `others`): `spearman`,
        `rmspe` in percent, and the `mode` chosen most often.
    """
    rows = []
    for device in table.latencies:
        others = [str(name) for name in table.latencies if name != device]
        alone, aided = _modes(table, []), _modes(table, others)
        for count in samples:
            for use, modes in (("alone", alone), ("others", aided)):
                draws = [_draw(table, str(device), modes, count, seed) for seed in range(seeds)]
                figures = pd.DataFrame(draws)
                mode = figures.pop("mode").mode().iloc[0]
                facts = {"table": table.name, "device": device, "samples": count, "sources": use, "mode": mode}
                rows.append(facts | {str(name): float(figures[name].mean()) for name in figures})
    return pd.DataFrame(rows)


def _modes(table: PublicTable, others: Sequence[str]) -> list[Mode]:
    modes: list[Mode] = []
    for counts, groups in table.views:
        fit = partial(TermSum.fit, counts, groups=groups, strength=FULL_STRENGTH)
        sources = [fit(table.latencies[name].to_numpy(np.float64)) for name in others]
        modes += network_modes(counts, groups, sources)
    return modes


def _draw(table: PublicTable, device: str, modes: Sequence[Mode], count: int, seed: int) -> dict[str, float | str]:
    latency = table.latencies[device].to_numpy(np.float64)
    cases = np.random.default_rng(seed).choice(len(latency), count, replace=False)
    choice = choose(modes, cases, latency[cases], seed=seed)
    rest = np.setdiff1d(np.arange(len(latency)), cases)
    predicted, measured = choice.predict(rest), latency[rest]
    return {
        "mode": choice.mode.name,
        "spearman": float(spearmanr(predicted, measured).statistic),
        "rmspe": 100 * float(np.sqrt(np.mean((predicted / measured - 1) ** 2))),
    }


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ResultsMissing(f"there is no table {path}; give the path of the published latencies as CSV")
    return pd.read_csv(path)


def _latencies(table: pd.DataFrame) -> pd.DataFrame:
    columns = table.filter(like="lat_").reset_index(drop=True)
    return columns.rename(columns=lambda name: str(name).removeprefix("lat_"))


def reaches(codes: Ints) -> bool:
    """Whether some path of edges leads from the input to the output."""
    reached = {0}
    for (source, node), code in zip(EDGES, codes, strict=True):
        if code and source in reached:
            reached.add(node)
    return 3 in reached


def _needed(codes: Ints) -> Ints:
    """`codes` with 0 for edges whose result the output does not need."""
    kept, needed = np.zeros_like(codes), {3}
    for edge in reversed(range(len(EDGES))):
        source, node = EDGES[edge]
        if codes[edge] and node in needed:
            kept[edge] = codes[edge]
            needed.add(source)
    return kept


def _counts(codes: Ints, operators: Sequence[int]) -> Floats:
    return np.stack([(codes == code).sum(axis=1) for code in operators], axis=1).astype(np.float64)
