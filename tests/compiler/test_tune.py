"""Tuned schedules are remembered, survive damage and other processes, and change no result."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import compiler.tune
from compiler import KernelSpec, compile_model, local_target, schedule
from compiler.errors import CacheUnwritable
from compiler.select import contenders, offers
from compiler.tune import Records
from pruning import Sparsity

SPEC = KernelSpec("conv", 32, 64, 14, 14, (3, 3), padding=(1, 1), epilogue=("relu",))


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    monkeypatch.setenv("NPAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiler.tune, "SECONDS", 0.01)
    monkeypatch.setattr(compiler.tune, "CONTENDERS", 3)
    return Records(local_target())


def test_contenders_are_distinct_offers_with_the_analytic_choice_first() -> None:
    sparse = SPEC.with_sparsity(Sparsity("block_punched(16x1)", 3))
    for spec in (SPEC, sparse):
        chosen = contenders(spec, local_target(), 6)
        assert chosen[0] == schedule(spec, local_target())
        assert len(set(chosen)) == len(chosen) == 6
        legal = [replace(offer, why="", blocks_outside=False) for offer in offers(spec, local_target())]
        assert all(replace(offer, why="", blocks_outside=False) in legal for offer in chosen)


def test_a_record_is_found_again_and_only_for_its_spec(records: Records) -> None:
    other = contenders(SPEC, records.target, 3)[2]
    records.store(SPEC, other)
    assert Records(records.target).choose(SPEC, records.target) == other
    assert records.load(replace(SPEC, in_channels=33)) is None
    assert Records(replace(records.target, flags=("-O1",))).load(SPEC) is None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schedule": {"family": "winograd"}}', b"\xff\xfe"])
def test_a_damaged_record_counts_as_none_and_is_written_anew(records: Records, damage: bytes) -> None:
    records.store(SPEC, contenders(SPEC, records.target, 3)[2])
    (path,) = records.directory.iterdir()
    path.write_bytes(damage)
    assert records.load(SPEC) is None
    assert records.choose(SPEC, records.target) == schedule(SPEC, records.target)
    records.store(SPEC, schedule(SPEC, records.target))
    assert records.load(SPEC) == schedule(SPEC, records.target)


def test_an_altered_schedule_is_noticed(records: Records) -> None:
    records.store(SPEC, schedule(SPEC, records.target))
    (path,) = records.directory.iterdir()
    entry = json.loads(path.read_text())
    entry["schedule"]["cols"] += 1
    path.write_text(json.dumps(entry))
    assert records.load(SPEC) is None


def test_several_writers_leave_one_whole_record(records: Records) -> None:
    options = contenders(SPEC, records.target, 6)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: records.store(SPEC, options[index % 6]), range(60)))
    assert records.load(SPEC) in options
    assert len(list(records.directory.iterdir())) == 1


def test_an_unwritable_cache_is_named(tmp_path: Path, records: Records) -> None:
    records.directory = tmp_path / "file" / "schedules"
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnwritable, match="cannot keep tuned schedules"):
        records.store(SPEC, schedule(SPEC, records.target))


def test_a_tuned_network_computes_the_same_and_is_tuned_once(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 40, 3, padding=1), nn.Hardswish())
    x = torch.randn(2, 3, 9, 9)
    tuned = compile_model(model, x, tune=True)
    with torch.no_grad():
        assert torch.allclose(tuned(x), model(x), rtol=1e-4, atol=1e-4)
    assert len(list(records.directory.iterdir())) == 2
    monkeypatch.setattr(compiler.tune, "contenders", lambda *_: pytest.fail("tuned again"))
    again = compile_model(model, x, tune=True)
    assert [row["tile"] for row in again.listing.kernels] == [row["tile"] for row in tuned.listing.kernels]
