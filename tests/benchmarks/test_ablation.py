"""Variants of the sampler, each without one of its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.ablation import FULL, VARIANTS, make_variant, worth
from benchmarks.nasbench201 import DEVICES, CellSpace, Table
from benchmarks.readme import ablation_table
from benchmarks.search import Cell, run_cell
from search.history import History, Observation

OTHERS = [name for name in VARIANTS if name != FULL]


def _proposed(path: Path, name: str, count: int) -> list[tuple[int, ...]]:
    table, space = Table.read(path), CellSpace()
    latency_ms = table.latency_ms[DEVICES[0]]
    sampler = make_variant(
        name, space, lambda c: float(latency_ms[space.encode(c)]), float(np.median(latency_ms)), seed=0, trials=30
    )
    observations: list[Observation] = []
    for _ in range(count):
        code = sampler.next_code(History(tuple(observations)))
        observations.append(Observation(code, float(table.validation[code])))
    return [observation.code for observation in observations]


@pytest.mark.parametrize("name", OTHERS)
def test_begins_like_the_whole_sampler_and_goes_on_in_its_own_way(table: Path, name: str) -> None:
    whole, without = _proposed(table, FULL, 25), _proposed(table, name, 25)
    assert without[:10] == whole[:10]
    assert without != whole


def test_runs_end_after_as_many_evaluations_as_they_are_given(table: Path) -> None:
    row = run_cell(table, Cell(DEVICES[0], 0.25, "exact", "without surrogate", 0), make_variant, 25)
    assert [name for name in row if name.startswith("regret")] == ["regret_25"]


def test_worth_compares_the_same_runs() -> None:
    rows = [
        {"device": device, "quantile": 0.25, "seed": seed, "method": method, "regret_100": regret + device}
        for device, seed in ((0, 0), (0, 1), (1, 0))
        for method, regret in ((FULL, 1.0), ("uniform", 1.5 + seed))
    ]
    rows.append({"device": 2, "quantile": 0.25, "seed": 0, "method": FULL, "regret_100": 9.0})  # not yet run by both
    found = worth(pd.DataFrame(rows)).set_index("method")
    assert list(found.index) == [FULL, "uniform"]
    assert found["runs"].tolist() == [4, 3]
    assert found.loc["uniform", "lost"] == pytest.approx((0.5 + 1.5 + 0.5) / 3)
    assert found.loc["uniform", "lost_error"] == pytest.approx(1 / 3)
    assert found.loc[FULL, "lost"] == 0
    table = ablation_table(found.reset_index()).splitlines()
    assert table[2:] == ["| npas | 3.25 | – | 4 |", "| uniform | 2.17 | +0.83 +- 0.33 | 3 |"]
