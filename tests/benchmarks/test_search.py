"""Samplers on a table of cells that is made up here."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.nasbench201 import DEVICES, NODES, OPERATIONS, CellSpace, Table
from benchmarks.readme import search_table
from benchmarks.search import (
    CHECKPOINTS,
    FILTERS,
    METHODS,
    SAMPLES,
    Cell,
    cells,
    predicted_ms,
    regrets,
    run_cell,
    summary,
)
from supernet import Candidate, Choice


def test_the_table_is_indexed_by_operations(table: Path) -> None:
    read, space = Table.read(table), CellSpace()
    assert not np.isnan(read.validation).any()
    assert read.validation[space.encode(space.largest())] == pytest.approx(60 + 4 * 6)
    assert read.latency_ms[DEVICES[1]][space.encode(space.smallest())] == pytest.approx(2 * 1.6)
    assert space.size == read.validation.size
    assert len(space.edges) == 4


@pytest.mark.parametrize(
    ("operations", "alive"),
    [
        ("skip none conv1x1 conv3x3 none none", "none none none conv3x3 none none"),
        ("none skip conv1x1 none conv3x3 skip", "none skip none none none skip"),
        ("skip none conv1x1 none none skip", "skip none conv1x1 none none skip"),
        ("none none skip none skip skip", "none none none none none none"),
    ],
)
def test_edges_without_a_signal_are_labelled_as_none(operations: str, alive: str) -> None:
    candidate = Candidate(tuple(map(Choice, operations.split())))
    assert CellSpace().labels(candidate) == alive.split()


@pytest.mark.parametrize("method", ["random", "evolution", "local_search", "q_only"])
def test_regret_never_grows_and_the_same_seed_repeats_it(table: Path, method: str) -> None:
    cell = Cell(DEVICES[0], 0.25, "exact", method, 3)
    row = run_cell(table, cell)
    regrets = [float(str(row[f"regret_{count}"])) for count in CHECKPOINTS]
    assert regrets == sorted(regrets, reverse=True)
    assert regrets[-1] >= 0
    assert not any(row[f"over_{count}"] for count in CHECKPOINTS)
    assert all(row[f"test_regret_{count}"] == pytest.approx(row[f"regret_{count}"]) for count in CHECKPOINTS)
    assert run_cell(table, cell) == row


def test_every_method_gets_every_device_budget_and_seed() -> None:
    listed = list(cells(METHODS, FILTERS, seeds=2))
    assert len(set(listed)) == len(listed) == 2 * 2 * 5 * 3 * len(METHODS)
    rows = pd.DataFrame([{**vars(cell), "regret_150": float(cell.seed)} for cell in listed])
    means = summary(rows)
    assert list(means.columns) == list(METHODS)
    assert (means == 0.5).all(axis=None)


def test_the_filter_takes_upper_ends_of_predicted_latencies(table: Path) -> None:
    latency_ms = Table.read(table).latency_ms[DEVICES[0]]
    told_ms = predicted_ms(latency_ms, seed=0)
    assert 0.99 < np.quantile(told_ms / latency_ms, 0.1) < np.quantile(told_ms / latency_ms, 0.9) < 1.1
    noisy_ms = latency_ms * np.random.default_rng(0).uniform(0.8, 1.25, latency_ms.shape)
    over = predicted_ms(noisy_ms, seed=0) / noisy_ms
    assert 0.85 < np.mean(over > 1) < 1
    row = run_cell(table, Cell(DEVICES[0], 0.25, "predicted", "random", 0))
    assert 0 <= int(str(row["over_150"])) < 30


def test_where_the_filter_admits_nothing_under_the_budget_the_worst_cell_there_is_the_pick(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Table.read(table)
    fast = read.latency_ms[DEVICES[4]] <= np.quantile(read.latency_ms[DEVICES[4]], 0.1)
    monkeypatch.setattr("benchmarks.search.predicted_ms", lambda latency_ms, seed: np.where(fast, 1e9, 1e-3))
    row = run_cell(table, Cell(DEVICES[4], 0.1, "predicted", "random", 0))
    allowed = read.validation[fast]
    assert row["over_150"] == 150
    assert row["regret_150"] == row["regret_25"] == pytest.approx(allowed.max() - allowed.min())


def test_what_is_predicted_to_take_nothing_takes_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SimpleNamespace(predict=lambda cases: np.zeros(len(cases)), left_out=np.zeros(SAMPLES))
    monkeypatch.setattr("benchmarks.search.choose", lambda *arguments, **options: nothing)
    latency_ms = np.ones((len(OPERATIONS),) * len(NODES))
    assert (predicted_ms(latency_ms, seed=0) > 0).all()


def test_regrets_are_means_over_the_seeds_with_their_standard_errors() -> None:
    listed = list(cells(METHODS[:2], FILTERS[:1], seeds=4))
    values = {"regret": 1.0, "test_regret": 2.0}
    rows = pd.DataFrame(
        [
            {
                **vars(cell),
                **{f"{kind}_{n}": factor * cell.seed for kind, factor in values.items() for n in CHECKPOINTS},
            }
            for cell in listed
        ]
    )
    means = regrets(rows)
    assert len(means) == 5 * 3 * 2
    assert (means["seeds"] == 4).all()
    for kind, factor in values.items():
        assert (means[f"{kind}_150"] == 1.5 * factor).all()
        assert means[f"{kind}_150_error"].to_numpy() == pytest.approx(factor * np.std(range(4), ddof=1) / 2)


def test_readme_table_has_a_row_a_cell_and_the_number_of_seeds() -> None:
    rows = pd.DataFrame([{**vars(cell), "seeds": 4} for cell in cells(("npas", "random"), FILTERS, seeds=1)])
    rows["regret_100"] = np.where(rows["method"] == "npas", 0.5, 1.0)
    rows["regret_150"] = rows["regret_100"] / 2
    lines = search_table(rows, "exact").splitlines()
    assert len(lines) == 2 + 15 + 2
    assert lines[-2] == "| mean | 0.50 / 0.25 | 1.00 / 0.50 |"
    assert lines[-1] == "| seeds | 4 | 4 |"
