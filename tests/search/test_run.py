"""A search from the files of a run directory: real supernet (untrained), real predictor (of a made-up device)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from search import prepare_search, run_search
from search.errors import BudgetError, DistortionsCorrupt, InfeasibleBudget, StudyElsewhere
from training.errors import TrainingError


@pytest.fixture
def config(job: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A job whose predictor is taken at its word."""
    (tmp_path / "calibration.json").write_text('{"factor": 1.0}')
    return job


def test_search_writes_its_study_and_goes_on_with_it(config: dict[str, Any], tmp_path: Path) -> None:
    first = run_search(config)
    assert len(first.trials) == 4
    assert first.trials["accuracy"].between(0, 100).all()
    assert (first.trials["predicted_ms"] <= 1.0).all()
    shown: list[int] = []
    config["search"]["trials"] = 6
    second = run_search(config, lambda evaluation: shown.append(evaluation.done))
    assert shown == [5, 6]
    pd.testing.assert_frame_equal(second.trials[:4], first.trials)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "calibration.json",
        "dense.json",
        "distortions.json",
        "predictor",
        "study.db",
        "study.db.lock",
        "supernet.safetensors",
    ]


def test_distortions_are_found_once_and_only_for_samplers_that_want_them(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    config["search"]["sampler"] = "random"
    run_search({**config, "storage": f"sqlite:///{tmp_path}/random.db"}, on_site=lambda *done: told.append(done))
    assert not told
    assert not (tmp_path / "distortions.json").exists()
    (tmp_path / "study.db").unlink()
    config["search"] |= {"sampler": "npas", "options": {"distortions": None}}
    run_search({**config, "storage": f"sqlite:///{tmp_path}/uniform.db"}, on_site=lambda *done: told.append(done))
    assert not told
    (tmp_path / "study.db").unlink()
    config["search"]["options"] = None
    first = run_search(config, on_site=lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]
    (tmp_path / "study.db").unlink()
    again = run_search(config, on_site=lambda *done: told.append(done))
    assert len(told) == 3
    pd.testing.assert_frame_equal(again.trials, first.trials)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[[1.0, 2.", "is damaged"),
        ('{"a": 1}', "is damaged"),
        ("[[1.0], [2.0], [3.0]]", "is of another search space"),
        ("[[0, 1, 1, 1, 1, NaN], [0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]]", "holds numbers that are no distortions"),
    ],
)
def test_a_file_with_other_distortions_is_refused(
    config: dict[str, Any], tmp_path: Path, content: str, reason: str
) -> None:
    (tmp_path / "distortions.json").write_text(content)
    with pytest.raises(DistortionsCorrupt, match=reason):
        run_search(config)
    assert (tmp_path / "distortions.json").read_text() == content
    assert not (tmp_path / "study.db").exists()


def test_a_study_in_a_database_is_copied_when_the_search_is_over(config: dict[str, Any], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    first = run_search({**config, "storage": url, "study": "one"})
    (tmp_path / "study.db").unlink()
    run_search({**config, "storage": url, "study": "two", "seed": 0, "search": {**config["search"], "trials": 1}})
    config["search"]["trials"] = 5
    again = run_search({**config, "storage": url, "study": "one"})
    pd.testing.assert_frame_equal(again.trials[:4], first.trials)
    with_file = run_search(config)
    pd.testing.assert_frame_equal(with_file.trials, again.trials)
    assert not list(tmp_path.glob("*.part*"))


def test_a_study_in_a_file_elsewhere_is_copied_too(config: dict[str, Any], tmp_path: Path) -> None:
    first = run_search({**config, "storage": str(tmp_path / "elsewhere" / "all.db"), "study": "one"})
    pd.testing.assert_frame_equal(run_search(config).trials, first.trials)


def test_trials_of_the_run_directory_are_not_replaced_by_fewer_from_elsewhere(
    config: dict[str, Any], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    first = run_search({**config, "study": "one name"})
    with pytest.raises(StudyElsewhere, match=r"study\.db holds 4 trials, and the study one in .* 0: go on without"):
        run_search({**config, "storage": url, "study": "one"})
    config["search"]["trials"] = 5
    second = run_search({**config, "study": "another name"})
    pd.testing.assert_frame_equal(second.trials[:4], first.trials)


def test_relative_budget_refers_to_the_dense_latency_measured_once(config: dict[str, Any], tmp_path: Path) -> None:
    config["budget"] = "3000%"
    result = run_search(config)
    measured = json.loads((tmp_path / "dense.json").read_text())["measured_ms"]
    assert result.budgets_ms == pytest.approx((30 * measured,))
    (tmp_path / "dense.json").write_text(json.dumps({"measured_ms": 4.0}))
    (tmp_path / "study.db").unlink()
    assert run_search(config).budgets_ms == (120.0,)


def test_budget_is_checked_before_anything_else(config: dict[str, Any], tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BudgetError, match="fast"):
        run_search({**config, "budget": "fast"})
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(InfeasibleBudget, match="predicted at"):
        run_search({**config, "budget": "0.0001ms"})
    assert not (tmp_path / "study.db").exists()


def test_missing_supernet_is_named(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "supernet.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"supernet\.safetensors"):
        run_search(config)


@pytest.mark.parametrize("factor", [0.8, 1.5])
def test_the_front_is_that_of_the_corrected_predictor(config: dict[str, Any], tmp_path: Path, factor: float) -> None:
    (tmp_path / "dense.json").write_text(json.dumps({"measured_ms": 1e3}))
    (tmp_path / "calibration.json").write_text('{"factor": 1.0}')
    before = prepare_search({**config, "budget": "front"}).budgets_ms
    (tmp_path / "calibration.json").write_text(json.dumps({"factor": factor}))
    after = prepare_search({**config, "budget": "front"}).budgets_ms
    assert after[0] == before[0] == pytest.approx(1e3)
    assert after[-1] == pytest.approx(factor * before[-1])
