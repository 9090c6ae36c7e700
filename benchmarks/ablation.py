"""What each part of npas's sampler is worth, on NAS-Bench-201: python -m benchmarks.ablation TABLE [--seeds 6]

Every variant lacks one part. All see the same cells under the same budgets, the filter knows the latencies of all,
and a seed begins with the same uniform candidates, so that they are compared in pairs. A row a run in
`runs/benchmarks/ablation_runs.csv`; what is there is not repeated. `ablation.csv` has what comes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.command_line import common, parser
from benchmarks.machine import machine_facts
from benchmarks.nasbench201 import DEVICES
from benchmarks.search import EXACT, QUANTILES, Cell, read_rows, run_cell
from benchmarks.tables import QUICK_RESULTS, write_table
from search import CandidateSampler
from search.encoding import Code
from search.feasible import LatencyFunction
from search.history import History
from search.kernel import CandidateKernel
from search.pool import POOL, Pool
from search.samplers import BOOnlySampler, NPASSampler, RandomFeasibleSampler
from search.surrogate import Surrogate
from supernet import ChoiceSpace

EVALUATIONS = 100
FULL = "npas"


class WithoutSurrogate(NPASSampler):
    """Evaluates any of the pool."""

    def _worths(self, history: History, pool: list[Code], rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.random(len(pool))


class WithoutMutations(NPASSampler):
    """Half of the pool is the agent's, half uniform."""

    def _pool(self, history: History, rng: np.random.Generator) -> list[Code]:
        pool, propose = Pool(self.feasible, history), self._proposer(history, rng)
        if propose is not None:
            pool.fill(propose, POOL // 2)
        pool.fill(lambda: self.encoding.draw(rng), POOL - len(pool.codes))
        return list(pool.codes)


class _Graphs(Surrogate):
    def _covariance(self, codes: Sequence[Code], known: int) -> CandidateKernel:
        similarity = self._features.similarity(codes, codes[:known])
        return CandidateKernel(torch.from_numpy(similarity), torch.zeros(3, *similarity.shape[1:], dtype=torch.double))


class _Positions(Surrogate):
    def _covariance(self, codes: Sequence[Code], known: int) -> CandidateKernel:
        differences = torch.from_numpy(self._features.differences(codes, codes[:known]))
        return CandidateKernel(differences[:0], differences)


class WithoutPositions(NPASSampler):
    """Candidates are alike as their graphs are."""

    def __init__(self, space: ChoiceSpace, latency: LatencyFunction, budget_ms: float, **options: Any) -> None:
        super().__init__(space, latency, budget_ms, **options)
        self._surrogate = _Graphs(space)


class WithoutGraphs(NPASSampler):
    """Candidates are alike as their choices at the same sites are."""

    def __init__(self, space: ChoiceSpace, latency: LatencyFunction, budget_ms: float, **options: Any) -> None:
        super().__init__(space, latency, budget_ms, **options)
        self._surrogate = _Positions(space)


VARIANTS: dict[str, type[CandidateSampler]] = {
    FULL: NPASSampler,
    "without agent": BOOnlySampler,
    "without mutations": WithoutMutations,
    "without graph kernel": WithoutGraphs,
    "without position kernel": WithoutPositions,
    "without surrogate": WithoutSurrogate,
    "uniform": RandomFeasibleSampler,
}


def make_variant(
    name: str, space: ChoiceSpace, latency: LatencyFunction, budget_ms: float, **options: Any
) -> CandidateSampler:
    """As `search.make_sampler`."""
    return VARIANTS[name](space, latency, budget_ms, **options)


def worth(table: pd.DataFrame) -> pd.DataFrame:
    """A row a variant: mean regret, and by how much more it is than that of the whole sampler on the same runs.

    Args:
        table: `device`, `quantile`, `seed`, `method` and `regret_100` (points of validation accuracy) of every run.

    Returns:
        `method`, `runs`, `regret`; `lost`, the mean difference to `npas`, and `lost_error`, its standard error.
    """
    wide = table.pivot_table(index=["device", "quantile", "seed"], columns="method", values=f"regret_{EVALUATIONS}")
    rows = []
    for method in [method for method in VARIANTS if method in wide]:
        pairs = wide[[FULL, method]].dropna() if method != FULL else wide[[FULL]].dropna()
        lost = pairs[method] - pairs[FULL]
        facts = {"method": method, "runs": len(pairs), "regret": pairs[method].mean()}
        rows.append({**facts, "lost": lost.mean(), "lost_error": lost.sem()})
    return pd.DataFrame(rows)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("table", type=Path, help="NAS-Bench-201 with latencies, as a CSV file")
    made.add_argument("--quantiles", nargs="+", type=float, choices=QUANTILES, default=QUANTILES)
    made.add_argument("--seeds", type=int, default=6)
    made.add_argument("--jobs", type=int, default=1, help="processes, one core each")
    arguments = made.parse_args()
    told = common(arguments)
    path, names = QUICK_RESULTS / "ablation_runs.csv", [field.name for field in fields(Cell)]
    rows = read_rows(path)
    done = {tuple(row[name] for name in names) for row in rows}
    runs = product(range(arguments.seeds), DEVICES, arguments.quantiles, VARIANTS)
    every = (Cell(device, quantile, EXACT, method, seed) for seed, device, quantile, method in runs)
    facts = machine_facts()
    workers = ProcessPoolExecutor(arguments.jobs)
    try:
        left = [
            workers.submit(run_cell, arguments.table, cell, make_variant, EVALUATIONS)
            for cell in every
            if astuple(cell) not in done
        ]
        for run in track(as_completed(left), "runs", total=len(left)):
            rows.append(run.result())
            write_table(path, pd.DataFrame(rows).sort_values(names), facts)
    finally:
        workers.shutdown(cancel_futures=True)
    found = worth(pd.DataFrame(rows))
    write_table(told.folder / "ablation.csv", found, facts)
    print(found.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
