"""A predictor is corrected by candidates like those that the search looks for, measured once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from compiler import local_target
from latency_model import LatencyPredictor
from search import run_search
from search.calibration import (
    CALIBRATION,
    calibration_factor,
    latency_of_run,
    read_calibration,
    typical_candidates,
)
from search.candidate_latency import CandidateLatency
from search.errors import CalibrationCorrupt, PredictorOff
from search.least_distortion import POWERS
from supernet import Candidate, Distortions, SearchSpace

BUDGET = 0.6
"""As a share of the dense network's latency."""


@pytest.fixture
def latency(toy: SearchSpace, made_up_predictor: LatencyPredictor) -> CandidateLatency:
    return CandidateLatency(toy, made_up_predictor, local_target())


@pytest.fixture(scope="module")
def distortions(toy: SearchSpace) -> Distortions:
    rng = np.random.default_rng(0)
    found = tuple(rng.exponential(size=len(toy.choices(site))) for site in range(len(toy.sites)))
    for values, index in zip(found, toy.encode(toy.largest()), strict=True):
        values[index] = 0.0
    return found


def test_the_factor_multiplies_all_that_is_predicted_and_nothing_is_asked_for_twice(
    toy: SearchSpace, latency: CandidateLatency, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = toy.largest()
    plain = latency(candidate)
    monkeypatch.setattr(LatencyPredictor, "predict_network", None)
    found = latency.corrected(1.25)(candidate)
    assert (found.mean_ms, found.lower_ms, found.upper_ms) == pytest.approx(
        (1.25 * plain.mean_ms, 1.25 * plain.lower_ms, 1.25 * plain.upper_ms)
    )
    assert latency.corrected(1.25).corrected(0.5).upper_ms(candidate) == pytest.approx(0.5 * plain.upper_ms)


def shares_of_dense(latency: CandidateLatency, *shares: float) -> list[float]:
    return [share * latency.upper_ms(latency.space.largest()) for share in shares]


@pytest.mark.parametrize(
    ("shares", "served"),
    [
        ((BUDGET,), (BUDGET,)),
        ((0.9, BUDGET), (0.9, BUDGET)),
        ((0.95, 0.9, 0.85, 0.8, 0.7, BUDGET), (0.95, 0.9, 0.8, 0.7)),
    ],
)
def test_typical_candidates_meet_the_budgets_they_are_for(
    latency: CandidateLatency, distortions: Distortions, shares: Sequence[float], served: Sequence[float]
) -> None:
    candidates = typical_candidates(latency, shares_of_dense(latency, *shares), distortions)
    assert 0 < len(candidates) <= len(POWERS)
    assert len(set(candidates)) == len(candidates)
    latencies_ms = [latency.upper_ms(candidate) for candidate in candidates]
    for budget_ms in shares_of_dense(latency, *served):
        assert any(0.5 * budget_ms < latency_ms <= budget_ms for latency_ms in latencies_ms)
    assert max(latencies_ms) <= max(shares_of_dense(latency, *served))


def test_the_factor_takes_the_one_that_is_furthest_over_to_the_end_of_its_interval_and_is_found_once(
    latency: CandidateLatency, distortions: Distortions, tmp_path: Path
) -> None:
    ratios, asked = [1.1, 1.3, 1.25, 1.2], []

    def measure(candidates: Sequence[Candidate]) -> list[float]:
        asked.append(candidates)
        return [ratio * latency.upper_ms(candidate) for ratio, candidate in zip(ratios, candidates, strict=False)]

    file = tmp_path / CALIBRATION
    factor = calibration_factor(latency, shares_of_dense(latency, 0.9, 0.7, BUDGET), lambda: distortions, measure, file)
    assert len(asked[0]) > 1
    assert factor == pytest.approx(1.3)
    assert read_calibration(file) == factor
    kept = json.loads(file.read_text())
    assert kept["candidate"] == [candidate.to_json() for candidate in asked[0]]
    assert (
        calibration_factor(latency, shares_of_dense(latency, 0.9, 0.7, BUDGET), lambda: distortions, measure, file)
        == factor
    )
    assert len(asked) == 1


@pytest.mark.parametrize("place", ["upper_ms", "mean_ms", "lower_ms"])
@pytest.mark.parametrize("share", [1.0, 0.8, 1.25])
def test_nothing_is_corrected_while_intervals_hold_and_no_more_than_needed_else(
    latency: CandidateLatency, distortions: Distortions, tmp_path: Path, place: str, share: float
) -> None:
    """All are measured at one place of their intervals, or so many times as much."""

    def measure(candidates: Sequence[Candidate]) -> list[float]:
        return [share * getattr(latency(candidate), place) for candidate in candidates]

    file = tmp_path / CALIBRATION
    budgets_ms = shares_of_dense(latency, 0.9, 0.7, BUDGET)
    factor = calibration_factor(latency, budgets_ms, lambda: distortions, measure, file)
    candidates = typical_candidates(latency, budgets_ms, distortions)
    measured_ms = np.array(measure(candidates))
    lower, upper = (
        np.array([getattr(latency.corrected(factor)(candidate), end) for candidate in candidates])
        for end in ("lower_ms", "upper_ms")
    )
    assert (measured_ms <= upper * 1.001).all()
    assert (measured_ms >= lower * 0.999).any()
    holds = measured_ms <= upper / factor * 1.001, measured_ms >= lower / factor * 0.999
    assert (factor == pytest.approx(1.0)) == bool(holds[0].all() and holds[1].any())


@pytest.mark.parametrize("factor", [0.3, 2.5])
def test_a_predictor_of_another_device_is_named_and_nothing_is_written(
    latency: CandidateLatency, distortions: Distortions, tmp_path: Path, factor: float
) -> None:
    file = tmp_path / CALIBRATION

    def measure(candidates: Sequence[Candidate]) -> list[float]:
        ends = [(latency(candidate).lower_ms, latency(candidate).upper_ms) for candidate in candidates]
        return [factor * (lower if factor < 1 else upper) for lower, upper in ends]

    with pytest.raises(PredictorOff, match=f"take {factor} times what"):
        calibration_factor(latency, shares_of_dense(latency, BUDGET), lambda: distortions, measure, file)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "[1.0]", '{"factor": "a"}', '{"factor": NaN}', '{"factor": 20}', "{}"])
def test_a_damaged_file_is_refused_and_left(
    latency: CandidateLatency, distortions: Distortions, tmp_path: Path, content: str
) -> None:
    file = tmp_path / CALIBRATION
    file.write_text(content)
    with pytest.raises(CalibrationCorrupt, match=r"calibration\.json"):
        calibration_factor(latency, shares_of_dense(latency, BUDGET), lambda: distortions, lambda candidates: [], file)
    assert file.read_text() == content


def test_a_run_without_a_search_has_the_predictor_as_it_is(
    toy: SearchSpace, latency: CandidateLatency, made_up_predictor: LatencyPredictor, tmp_path: Path
) -> None:
    made_up_predictor.save(tmp_path / "predictor")
    of_run = latency_of_run(toy, local_target(), tmp_path)
    assert of_run(toy.largest()) == latency(toy.largest())
    (tmp_path / CALIBRATION).write_text('{"factor": 1.5}')
    of_run = latency_of_run(toy, local_target(), tmp_path)
    assert of_run(toy.largest()).mean_ms == pytest.approx(1.5 * latency(toy.largest()).mean_ms)


def test_a_search_measures_on_its_device_and_holds_the_corrected_latency_against_the_budget(
    toy: SearchSpace, job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates take 1.4 times what they may take by prediction, the dense network just what it is predicted."""
    dense_ms = latency_of_run(toy, local_target(), tmp_path)(toy.largest()).mean_ms
    (tmp_path / "dense.json").write_text(json.dumps({"measured_ms": dense_ms}))
    shares: list[float] = []

    def compare(dense: object, peers: dict[str, object], *, seconds: float) -> pd.DataFrame:
        candidates = typical_candidates(
            latency_of_run(toy, local_target(), tmp_path),
            (BUDGET * dense_ms,),
            tuple(np.array(values) for values in json.loads((tmp_path / "distortions.json").read_text())),
        )
        assert len(peers) == len(candidates)
        plain = latency_of_run(toy, local_target(), tmp_path)
        shares.extend(1.4 * plain.upper_ms(candidate) / dense_ms for candidate in candidates)
        return pd.DataFrame({"ratio": [1.0, *shares]})

    monkeypatch.setattr("search.run.compare_runtimes", compare)
    search = {**job["search"], "trials": 12}
    found = run_search({**job, "budget": f"{100 * BUDGET:g}%", "search": search})
    assert shares
    assert read_calibration(tmp_path / CALIBRATION) == pytest.approx(1.4)
    predictor_says = LatencyPredictor.load(tmp_path / "predictor")
    plain = CandidateLatency(toy, predictor_says, local_target())
    for row in found.trials.to_dict("records"):
        assert row["predicted_ms"] == pytest.approx(1.4 * plain(Candidate.from_json(row["candidate"])).mean_ms)
        assert 1.4 * plain.upper_ms(Candidate.from_json(row["candidate"])) <= BUDGET * dense_ms
