"""Samplers beside one another on NAS-Bench-201 under latency budgets: python -m benchmarks.search TABLE [--seeds 20]

Every method gets the same filter and the same number of evaluations: what is predicted over the budget is never
evaluated. The filter knows the table's latencies (exact), or takes the upper ends of what is predicted from those of
100 cells (predicted), as the search does. Five devices, three budgets (quantiles of the device's latencies), several
seeds. A row a run in `search.csv`; runs that are there already are not repeated, so that it can be stopped and gone on
with. `search_regret.csv` has their means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, astuple, dataclass, fields
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from benchmarks.command_line import common, parser
from benchmarks.machine import machine_facts
from benchmarks.nasbench201 import DEVICES, CellSpace, Floats, Table
from benchmarks.public_tables import cell_views, reaches
from benchmarks.tables import read_table, write_table
from latency_model.conformal import conformal_quantile
from latency_model.kernel_model import COVERAGE
from latency_model.transfer import choose, network_modes
from search import CandidateSampler, make_sampler
from search.history import History, Observation
from supernet import Candidate

METHODS = ("npas", "bo_only", "q_only", "evolution", "local_search", "tpe", "knapsack", "random")
QUANTILES = (0.10, 0.25, 0.50)
CHECKPOINTS = (25, 50, 100, 150)
EXACT, PREDICTED = "exact", "predicted"
FILTERS = (EXACT, PREDICTED)
SAMPLES = 100


@dataclass(frozen=True)
class Cell:
    """One run: what is searched under which filter, by whom, and the seed."""

    device: str
    quantile: float
    filter: str
    method: str
    seed: int


def run_cell(
    path: Path, cell: Cell, make: Callable[..., CandidateSampler] = make_sampler, evaluations: int = max(CHECKPOINTS)
) -> dict[str, object]:
    """Search, and tell how far the best cell found is from the best under the budget, in points.

    `regret_N` is that of validation accuracy after N evaluations; `test_regret_N` compares the test accuracy of the
    cell picked by validation with that of the cell one would pick knowing everything. Only cells that meet the budget
    by the table are picked; `over_N` is how many of the N do not. Where all N miss it, which happens under predicted
    latencies, the worst cell under the budget is the pick.

    Args:
        make: makes the sampler from the cell's method, as `make_sampler` does.
    """
    torch.set_num_threads(1)
    table = _table(path)
    latency_ms = table.latency_ms[cell.device]
    budget_ms = float(np.nanquantile(latency_ms, cell.quantile))
    space = CellSpace()
    told_ms = latency_ms if cell.filter == EXACT else predicted_ms(latency_ms, cell.seed)
    sampler = make(
        cell.method,
        space,
        lambda candidate: _at(told_ms, space, candidate),
        budget_ms,
        seed=cell.seed,
        trials=evaluations,
    )
    observations: list[Observation] = []
    for done in range(evaluations):
        code = sampler.propose(History(tuple(observations)), np.random.default_rng([cell.seed, done]))
        assert code is not None
        observations.append(Observation(code, float(table.validation[code])))
    allowed = np.where(latency_ms <= budget_ms, table.validation, np.nan)
    best, worst = (np.unravel_index(extreme(allowed), allowed.shape) for extreme in (np.nanargmax, np.nanargmin))
    row: dict[str, object] = {**asdict(cell), "budget_ms": budget_ms}
    for count in [count for count in CHECKPOINTS if count <= evaluations]:
        within = [o for o in observations[:count] if latency_ms[o.code] <= budget_ms]
        pick = max(within, key=lambda observation: observation.reward).code if within else worst
        row[f"regret_{count}"] = float(table.validation[best] - table.validation[pick])
        row[f"test_regret_{count}"] = float(table.test[best] - table.test[pick])
        row[f"over_{count}"] = count - len(within)
    return row


def predicted_ms(latency_ms: Floats, seed: int) -> Floats:
    """Upper ends of the latencies of all cells, predicted from what `SAMPLES` of them take: arrays [5, 5, 5, 5, 5, 5].

    Cells whose output does not depend on their input are not among these, as in `public_tables`. A cell that is
    predicted to take nothing, being empty, takes a nanosecond.
    """
    codes = np.array(list(np.ndindex(latency_ms.shape)))
    modes = [mode for counts, groups in cell_views(codes) for mode in network_modes(counts, groups, [])]
    flat = latency_ms.ravel()
    known = np.flatnonzero(~np.isnan(flat) & np.array([reaches(code) for code in codes]))
    cases = np.random.default_rng(seed).choice(known, SAMPLES, replace=False)
    choice = choose(modes, cases, flat[cases], seed=seed)
    upper = np.exp(conformal_quantile(np.abs(choice.left_out), COVERAGE)) * choice.predict(np.arange(len(codes)))
    ends: Floats = np.maximum(upper, 1e-6).reshape(latency_ms.shape)
    return ends


@lru_cache(maxsize=1)
def _table(path: Path) -> Table:
    return Table.read(path)


def _at(latency_ms: Floats, space: CellSpace, candidate: Candidate) -> float:
    return float(latency_ms[space.encode(candidate)])


def read_rows(path: Path) -> list[dict[str, object]]:
    """Runs that are in the file already."""
    table = read_table(path)[0] if path.exists() else pd.DataFrame()
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def cells(methods: tuple[str, ...], filters: tuple[str, ...], seeds: int) -> Iterator[Cell]:
    """All runs, seed by seed, so that a part of them is a fair comparison of fewer seeds."""
    for filter_, seed, device, quantile, method in product(filters, range(seeds), DEVICES, QUANTILES, methods):
        yield Cell(device, quantile, filter_, method, seed)


def summary(table: pd.DataFrame, count: int = max(CHECKPOINTS)) -> pd.DataFrame:
    """Mean validation regret after `count` evaluations: a row a filter, device and budget, a column a method."""
    means = table.pivot_table(index=["filter", "device", "quantile"], columns="method", values=f"regret_{count}")
    return means[[method for method in METHODS if method in means]]


def regrets(table: pd.DataFrame) -> pd.DataFrame:
    """A row a filter, device, budget and method: number of seeds, mean and standard error of every regret."""
    by_cell = table.groupby(["filter", "device", "quantile", "method"])
    columns = [f"{kind}_{count}" for kind in ("regret", "test_regret") for count in CHECKPOINTS]
    parts: list[pd.Series[Any]] = [by_cell.size().rename("seeds")]
    for column in columns:
        parts += [by_cell[column].mean(), by_cell[column].sem().rename(f"{column}_error")]
    return pd.concat(parts, axis=1).reset_index()


def main() -> None:
    made = parser(__doc__)
    made.add_argument("table", type=Path, help="NAS-Bench-201 with latencies, as a CSV file")
    made.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    made.add_argument("--filters", nargs="+", choices=FILTERS, default=FILTERS)
    made.add_argument("--seeds", type=int, default=20)
    made.add_argument("--jobs", type=int, default=1, help="processes, one core each")
    arguments = made.parse_args()
    told = common(arguments)
    path, names = told.folder / "search.csv", [field.name for field in fields(Cell)]
    rows = read_rows(path)
    done = {tuple(row[name] for name in names) for row in rows}
    left = [
        cell
        for cell in cells(tuple(arguments.methods), tuple(arguments.filters), arguments.seeds)
        if astuple(cell) not in done
    ]
    facts = machine_facts()
    workers = ProcessPoolExecutor(arguments.jobs)
    try:
        runs = [workers.submit(run_cell, arguments.table, cell) for cell in left]
        for run in track(as_completed(runs), "runs", total=len(runs)):
            rows.append(run.result())
            write_table(path, pd.DataFrame(rows).sort_values(names), facts)
    finally:
        workers.shutdown(cancel_futures=True)
    table = pd.DataFrame(rows)
    write_table(told.folder / "search_regret.csv", regrets(table), facts)
    for count in (100, 150):
        print(f"\nmean validation regret after {count} evaluations\n{summary(table, count).round(3)}")


if __name__ == "__main__":
    main()
