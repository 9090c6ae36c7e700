"""What is kept of a main job, on made-up records."""

import json
from pathlib import Path

import pytest

from benchmarks.errors import ResultsMissing
from benchmarks.main_job import COLUMNS, KEPT, facts, networks
from benchmarks.readme import main_job_table


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    for name, accuracy, ms in (("dense", 90.0, 2.0), ("winners/1", 88.0, 0.9), ("winners/2", 89.0, 1.0)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        known = dict.fromkeys(COLUMNS, 1.0) | {"name": folder.name, "test_accuracy": accuracy, "measured_ms": ms}
        (folder / "metrics.json").write_text(json.dumps(known | {"onnxruntime_ms": 3.0, "onnx_bytes": 12_345}))
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "search.json").write_text(json.dumps({"stage": "search", "seconds": 12.4}))
    for name in KEPT:
        (tmp_path / name).write_text("")
    (tmp_path / "config.yaml").write_text("{budget: 50%, seed: 3, search: {trials: 7}}")
    return tmp_path


def test_the_dense_network_comes_first_then_the_winners_by_accuracy(run_dir: Path) -> None:
    table = networks(run_dir)
    assert list(table["name"]) == ["dense", "2", "1"]
    lines = main_job_table(table).splitlines()
    assert lines[2:4] == ["| dense | 90.00 | 2.000 | 100 % | 3.000 | 12 |", "| 2 | 89.00 | 1.000 | 50 % | 3.000 | 12 |"]


def test_settings_and_seconds_are_told(run_dir: Path) -> None:
    told = facts(run_dir)
    assert told["budget"] == "50%"
    assert told["search"] == "{'trials': 7}"
    assert told["seconds of search"] == "12"


def test_a_job_that_is_not_finished_is_refused(run_dir: Path) -> None:
    (run_dir / "report.html").unlink()
    with pytest.raises(ResultsMissing, match="finish the main job"):
        networks(run_dir)
