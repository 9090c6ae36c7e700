from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from compiler.spec import KernelSpec
from latency_model.environment import Environment
from latency_model.errors import StoreCorrupt, StoreMixed
from latency_model.store import QUIET, SCHEMA, KernelStore, specs_of
from pruning import Sparsity

CONV = KernelSpec("conv", 64, 32, 8, 8, (3, 3), padding=(1, 1), epilogue=("add", "relu")).with_sparsity(
    Sparsity("block_punched(16x1)", 2.5)
)
POOL = KernelSpec("global_pool", 32, 32, 8, 8)


def rows(*specs: KernelSpec, us: float = 10.0, control_us: float = 50.0, **facts: Any) -> pd.DataFrame:
    values = {
        "network": uuid.uuid4().hex,
        "median_us": us,
        "spread": 0.02,
        "runs": 8,
        "control_us": control_us,
        "network_wall_us": 300.5,
        "network_cpu_us": 299.5,
        "clock_mhz": 2500.0,
        "date": "2026-01-01T00:00:00+00:00",
        "environment": "e",
        **dict.fromkeys(("device", "target", "cpu", "compiler", "flags", "npas"), "x"),
        **facts,
    }
    return pd.DataFrame([spec.to_dict() for spec in specs]).assign(**values)


@pytest.fixture
def store(tmp_path: Path) -> KernelStore:
    return KernelStore(tmp_path / "kernels.parquet")


def test_rows_come_back_as_they_were_and_in_order(store: KernelStore) -> None:
    first, second = rows(CONV, POOL, us=1.25), rows(POOL, us=7.5, network="m")
    store.append(first)
    store.append(second)
    found = store.read()
    assert list(found.columns) == SCHEMA.names
    pd.testing.assert_frame_equal(found, pd.concat([first, second], ignore_index=True), check_dtype=False)
    assert specs_of(found) == [CONV, POOL, POOL]


def test_store_that_does_not_exist_is_empty(store: KernelStore) -> None:
    assert len(store.read()) == 0
    assert len(store.table()) == 0
    assert not store.path.exists()


def test_table_has_one_row_a_kernel_with_the_noise_between_networks(store: KernelStore) -> None:
    for us in (9.0, 10.0, 12.0):
        store.append(rows(CONV, us=us))
    store.append(rows(POOL, us=3.0))
    table = store.table().set_index("op")
    assert table.loc["conv", "median_us"] == pytest.approx(10.0)
    assert table.loc["conv", "networks"] == 3
    assert table.loc["conv", "runs"] == 24
    expected = np.std(np.log([9, 10, 12]), ddof=1) / np.sqrt(3)
    assert table.loc["conv", "noise"] == pytest.approx(expected)
    assert np.isnan(table.loc["global_pool", "noise"])


def test_disturbed_networks_count_only_where_there_is_no_other(store: KernelStore) -> None:
    store.append(rows(CONV, us=10.0, control_us=50.0))
    store.append(rows(CONV, POOL, us=30.0, control_us=100.0))
    table = store.table().set_index("op")
    assert table.loc["conv", "median_us"] == pytest.approx(10.0)
    assert table.loc["conv", "drift"] == 0
    assert table.loc["global_pool", "median_us"] == pytest.approx(15.0)
    assert table.loc["global_pool", "drift"] == pytest.approx(1.0)


def test_times_are_divided_by_small_drift(store: KernelStore) -> None:
    store.append(rows(CONV, us=10.0, control_us=50.0))
    store.append(rows(CONV, us=10.0 * (1 + QUIET / 2), control_us=50.0 * (1 + QUIET / 2)))
    table = store.table()
    assert table["median_us"].item() == pytest.approx(10.0)
    assert table["noise"].item() == pytest.approx(0.0, abs=1e-12)


def test_environments_are_not_mixed(store: KernelStore) -> None:
    store.append(rows(CONV, us=10.0, control_us=50.0, environment="a", cpu="fast"))
    store.append(rows(CONV, us=90.0, control_us=500.0, environment="b", cpu="slow"))
    with pytest.raises(StoreMixed, match=r"a: .*fast.*b: .*slow"):
        store.table()
    assert store.table("a")["median_us"].item() == pytest.approx(10.0)
    assert store.table("b")["median_us"].item() == pytest.approx(90.0)
    assert store.table("b")["drift"].item() == 0
    assert len(store.table("c")) == 0


def test_stores_of_several_machines_are_merged_and_no_row_counts_twice(store: KernelStore, tmp_path: Path) -> None:
    other = KernelStore(tmp_path / "other")
    store.append(rows(CONV))
    other.append(rows(POOL, network="m"))
    other.append(rows(CONV, us=12.0, network="o"))
    assert store.merge(other) == 2
    assert store.merge(other) == 0
    store.append(rows(POOL, network="m"))
    assert specs_of(store.read()) == [CONV, POOL, CONV]
    assert store.merge(KernelStore(tmp_path / "nothing")) == 0


@pytest.mark.parametrize("column", ["environment", *(field.name for field in fields(Environment))])
def test_rows_of_another_device_are_no_duplicates_even_in_a_network_of_the_same_name(
    store: KernelStore, tmp_path: Path, column: str
) -> None:
    here, there = rows(CONV, us=10.0, network="m"), rows(CONV, us=90.0, network="m", **{column: "other"})
    store.append(here)
    store.append(pd.concat([here, there]))  # copied by hand, the first row once more
    assert store.read()["median_us"].tolist() == [10.0, 90.0]
    other = KernelStore(tmp_path / "other")
    other.append(there)
    store.merge(other)
    assert store.read()[["median_us", column]].values.tolist() == [[10.0, here[column].item()], [90.0, "other"]]


def test_nothing_is_merged_from_a_damaged_store(store: KernelStore, tmp_path: Path) -> None:
    other = KernelStore(tmp_path / "other")
    other.append(rows(POOL))
    damaged = other.append(rows(CONV))
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(StoreCorrupt, match=damaged.name):
        store.merge(other)
    assert not len(store.read())


def test_kernels_of_another_compiler_fill_gaps_and_are_marked(store: KernelStore) -> None:
    now = Environment("phone", "neon", "A76", "gcc 13", "-O3", "2")
    before, elsewhere = replace(now, compiler="gcc 12"), replace(now, device="tablet")
    for us, environment in ((10.0, before), (20.0, now), (30.0, elsewhere)):
        specs = [CONV] if environment is now else [CONV, POOL]
        store.append(rows(*specs, us=us, environment=environment.fingerprint, network=str(us), **asdict(environment)))
    table = store.table_of(now).set_index("op")
    assert table.loc["conv", "median_us"] == pytest.approx(20.0)
    assert table.loc["global_pool", "median_us"] == pytest.approx(10.0)
    assert table["older"].to_dict() == {"conv": False, "global_pool": True}
    assert len(store.table_of(replace(now, cpu="A77"))) == 0


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_truncated_part_is_named(store: KernelStore, keep: int) -> None:
    store.append(rows(POOL))
    part = store.append(rows(CONV))
    part.write_bytes(part.read_bytes()[:keep])
    with pytest.raises(StoreCorrupt, match=part.name) as caught:
        store.read()
    assert "delete this file" in str(caught.value)
    part.unlink()
    assert specs_of(store.read()) == [POOL]


def test_part_with_other_columns_is_named(store: KernelStore) -> None:
    store.append(rows(CONV))
    part = store.path / "part-9.parquet"
    rows(CONV).drop(columns="control_us").to_parquet(part)
    with pytest.raises(StoreCorrupt, match=r"part-9\.parquet.*control_us"):
        store.read()


def test_rows_without_a_column_are_refused_before_anything_is_written(store: KernelStore) -> None:
    with pytest.raises(KeyError, match="runs"):
        store.append(rows(CONV).drop(columns="runs"))
    assert not store.path.exists()


KILLED_WHILE_WRITING = """
import os, signal, sys
import pandas, pyarrow.parquet
from latency_model.store import KernelStore

write = pyarrow.parquet.write_table

def cut_off(table, file):
    write(table, file)
    file.flush()
    file.truncate(file.tell() // 2)
    os.kill(os.getpid(), signal.SIGKILL)

pyarrow.parquet.write_table = cut_off
KernelStore(sys.argv[1]).append(pandas.read_json(sys.argv[2], orient="records", dtype=False))
"""


def test_kill_while_appending_loses_that_part_only(store: KernelStore, tmp_path: Path) -> None:
    store.append(rows(CONV))
    frame = tmp_path / "rows.json"
    rows(POOL, clock_mhz=2500.5).to_json(frame, orient="records")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(store.path), str(frame)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(store.path.iterdir())) == 2, "the unfinished file lies there"
    assert specs_of(store.read()) == [CONV]
    store.append(rows(replace(POOL, height=4)))
    assert specs_of(store.read()) == [CONV, replace(POOL, height=4)]
