from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compiler.spec import KernelSpec
from compiler.target import AVX512
from latency_model.device import Device
from latency_model.errors import (
    InvalidMeasurement,
    PredictorCorrupt,
    PredictorNotFound,
    TooFewMeasurements,
    UnknownKernel,
)
from latency_model.features import schedules
from latency_model.held_out import is_held_out
from latency_model.kernel_model import KernelModel
from latency_model.predictor import LatencyPredictor
from latency_model.runner import make_runner
from latency_model.store import specs_of
from pruning import Sparsity

Law = Callable[[KernelSpec], float]
DEVICE = Device("paper", AVX512, make_runner("local"))


@pytest.fixture(scope="module")
def predictor(table: pd.DataFrame) -> LatencyPredictor:
    return LatencyPredictor.fit(table, DEVICE, seed=0)


@pytest.fixture(scope="module")
def unseen(pool: tuple[KernelSpec, ...], table: pd.DataFrame) -> list[KernelSpec]:
    timed = set(specs_of(table))
    return [spec for spec in pool if spec not in timed]


def test_most_unseen_kernels_are_within_a_tenth_of_the_law(
    predictor: LatencyPredictor, unseen: list[KernelSpec], law: Law
) -> None:
    truth = np.array([law(spec) for spec in unseen])
    off = np.abs(predictor.predict(unseen)["predicted_us"].to_numpy() / truth - 1)
    assert len(unseen) > 100
    assert np.mean(off <= 0.10) >= 0.8


def test_accuracy_report_judges_held_out_kernels_only(predictor: LatencyPredictor, table: pd.DataFrame) -> None:
    report = predictor.accuracy(table).set_index("op")
    held = [spec for spec in specs_of(table) if is_held_out(spec)]
    assert report.loc["all", "count"] == len(held)
    assert report.loc["conv", "count"] == sum(spec.op == "conv" for spec in held)
    assert report.loc["all", "within_10"] >= 80
    assert report.loc["all", "spearman"] > 0.95
    assert report.loc["all", "noise_rmspe"] == pytest.approx(2.0)
    trained = table[[not is_held_out(spec) for spec in specs_of(table)]]
    with pytest.raises(TooFewMeasurements, match="none of the"):
        predictor.accuracy(trained)


def test_intervals_cover_nine_in_ten(predictor: LatencyPredictor, table: pd.DataFrame) -> None:
    report = predictor.accuracy(table).set_index("op")
    assert 80 <= report.loc["all", "covered"] <= 100
    found = predictor.predict(specs_of(table))
    assert (found["lower_us"] < found["predicted_us"]).all()
    assert (found["predicted_us"] < found["upper_us"]).all()
    assert np.quantile(found["upper_us"] / found["lower_us"], 0.95) < 1.6


def test_held_out_kernels_change_nothing(predictor: LatencyPredictor, table: pd.DataFrame) -> None:
    held = np.array([is_held_out(spec) for spec in specs_of(table)])
    assert held.sum() > 50
    other = table.copy()
    other.loc[held, "median_us"] *= 1000
    specs = specs_of(table)
    pd.testing.assert_frame_equal(LatencyPredictor.fit(other, DEVICE).predict(specs), predictor.predict(specs))


def test_another_seed_is_another_fit(predictor: LatencyPredictor, table: pd.DataFrame) -> None:
    specs = specs_of(table)
    other = LatencyPredictor.fit(table, DEVICE, seed=1).predict(specs)["predicted_us"]
    assert not np.array_equal(other, predictor.predict(specs)["predicted_us"])


def test_saved_predictor_predicts_the_same_bit_for_bit(
    predictor: LatencyPredictor, table: pd.DataFrame, unseen: list[KernelSpec], tmp_path: Path
) -> None:
    predictor.save(tmp_path)
    loaded = LatencyPredictor.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.predict(unseen), predictor.predict(unseen), check_exact=True)
    assert loaded.predict_network(unseen[:9]) == predictor.predict_network(unseen[:9])
    assert loaded.device == "paper"
    assert not list(tmp_path.glob(".unfinished*"))
    loaded.fit_networks([unseen[:5], unseen[5:9]], [1.0, 2.0]).save(tmp_path / "again")
    again = LatencyPredictor.load(tmp_path / "again")
    assert again.predict_network(unseen[:9]) == loaded.predict_network(unseen[:9])
    assert again.network == loaded.network


def test_saving_over_an_older_predictor_leaves_no_trace_of_it(
    predictor: LatencyPredictor, table: pd.DataFrame, tmp_path: Path
) -> None:
    LatencyPredictor.fit(table, DEVICE, seed=1).save(tmp_path)
    before = set(tmp_path.glob("model-*"))
    predictor.save(tmp_path)
    assert not before & set(tmp_path.glob("model-*"))
    specs = specs_of(table)
    pd.testing.assert_frame_equal(LatencyPredictor.load(tmp_path).predict(specs), predictor.predict(specs))


def test_altered_files_are_refused_by_name(predictor: LatencyPredictor, tmp_path: Path) -> None:
    with pytest.raises(PredictorNotFound, match=re.escape(str(tmp_path))):
        LatencyPredictor.load(tmp_path)
    predictor.save(tmp_path)
    model = next(tmp_path.glob("model-*.txt"))
    text = model.read_text()
    model.write_text(text[: len(text) // 2])
    with pytest.raises(PredictorCorrupt, match=model.name):
        LatencyPredictor.load(tmp_path)
    model.unlink()
    with pytest.raises(PredictorCorrupt, match=model.name):
        LatencyPredictor.load(tmp_path)
    model.write_text(text)
    index = tmp_path / "predictor.json"
    content = index.read_text()
    for wrong in (content[:-50], content.replace("cycle_us", "cycle_ns"), "[]", ""):
        index.write_text(wrong)
        with pytest.raises(PredictorCorrupt, match=r"predictor\.json"):
            LatencyPredictor.load(tmp_path)
    index.write_text(json.dumps({**json.loads(content), "format": 99}))
    with pytest.raises(PredictorCorrupt, match="format 99"):
        LatencyPredictor.load(tmp_path)


def test_kinds_never_measured_are_refused(predictor: LatencyPredictor, unseen: list[KernelSpec]) -> None:
    for wrong in (
        KernelSpec("max_pool", 32, 32, 8, 8, (2, 2), (2, 2)),
        replace(unseen[0], threads=2),
        replace(unseen[0], dtype="bfloat16"),
    ):
        with pytest.raises(UnknownKernel, match=f"no {wrong.op} in {wrong.dtype} on {wrong.threads}") as caught:
            predictor.predict([unseen[0], wrong])
        assert "depthwise in float32 on 1" in str(caught.value)


def test_kernels_that_were_fitted_to_are_looked_up(predictor: LatencyPredictor, table: pd.DataFrame) -> None:
    trained = table[[not is_held_out(spec) for spec in specs_of(table)]]
    found = predictor.predict(specs_of(trained))
    np.testing.assert_array_equal(found["predicted_us"], trained["median_us"])


def test_far_larger_kernels_than_measured_follow_the_roofline(
    predictor: LatencyPredictor, pool: tuple[KernelSpec, ...], law: Law
) -> None:
    large = KernelSpec("conv", 512, 512, 56, 56, (3, 3), padding=(1, 1), epilogue=("relu",))
    assert law(large) > 20 * max(map(law, pool))
    assert predictor.predict([large])["predicted_us"].item() == pytest.approx(law(large), rel=0.35)


def test_kernels_far_from_all_that_were_measured_have_wide_intervals(
    predictor: LatencyPredictor, unseen: list[KernelSpec]
) -> None:
    far = KernelSpec("conv", 2048, 2048, 112, 112, (3, 3), padding=(1, 1), epilogue=("relu",))
    strange = replace(unseen[0], kernel=(7, 7), padding=(3, 3), stride=(4, 4))
    table = predictor.predict([*unseen, far, strange])
    width = np.log(table["upper_us"] / table["predicted_us"]).to_numpy()
    assert (width[-2:] > width[:-2].max()).all()
    assert width[-2] > 3 * np.median(width[:-2])


SORTS: dict[str, Callable[[KernelSpec], bool]] = {
    "large": lambda spec: spec.macs_kept >= 3e6,
    "wide": lambda spec: spec.in_channels > 112,
    "many pixels": lambda spec: spec.height == 16,
    "of one scheme": lambda spec: "16x1" in str(spec.sparsity.scheme),
    "with one function fused": lambda spec: "hard_swish" in spec.epilogue,
    "of one shape": lambda spec: spec.op == "conv" and spec.kernel == (3, 3),
}


@pytest.fixture(scope="module")
def left_out(pool: tuple[KernelSpec, ...], law: Law) -> dict[str, tuple[KernelModel, list[KernelSpec], np.ndarray]]:
    """For each sort of kernel: a model that was fitted to all others, those left out, and how far it is off there."""
    found = {}
    for name, belongs in SORTS.items():
        rest = [spec for spec in pool if not belongs(spec)]
        out = [spec for spec in pool if belongs(spec)]
        assert min(len(out), len(rest)) > 30
        noise = np.exp(0.02 * np.random.default_rng(0).standard_normal(len(rest)))
        model = KernelModel.fit(rest, np.array([law(spec) for spec in rest]) * noise, AVX512, seed=0)
        truth = np.array([law(spec) for spec in out])
        found[name] = model, out, np.abs(np.log(model.predict(out)[:, 0] / truth))
    return found


@pytest.mark.parametrize("sort", SORTS)
def test_intervals_cover_sorts_of_kernels_that_were_never_measured(
    left_out: dict[str, tuple[KernelModel, list[KernelSpec], np.ndarray]], sort: str
) -> None:
    model, out, off = left_out[sort]
    assert np.mean(off <= model.predict(out)[:, 1]) >= 0.85


def test_distance_to_the_nearest_alone_would_not_cover_them(
    left_out: dict[str, tuple[KernelModel, list[KernelSpec], np.ndarray]],
) -> None:
    covered = [
        np.mean(off <= replace(model, log_growth=0.0).predict(out)[:, 1]) for model, out, off in left_out.values()
    ]
    assert min(covered) < 0.6


def test_intervals_grow_with_the_square_root_of_the_excess_and_only_outside(
    predictor: LatencyPredictor, unseen: list[KernelSpec]
) -> None:
    model = predictor._kernels
    assert isinstance(model, KernelModel)
    asked = [*unseen, *(replace(unseen[0], height=size, width=size) for size in (32, 64, 128))]
    ops = [spec.op for spec in asked]
    features = model.encoder.encode(asked, schedules(asked, AVX512))
    excess = model.extent.excess(ops, model.encoder.shapes(features))
    near = replace(model, log_growth=0.0).predict(asked)[:, 1]
    grown = model.predict(asked)[:, 1] - near
    assert model.log_growth > 0
    assert (excess[-3:] > 0).all()
    assert np.mean(excess[:-3] == 0) > 0.9
    np.testing.assert_array_equal(grown[excess == 0], 0)
    np.testing.assert_allclose(grown, model.log_growth * np.sqrt(excess), atol=1e-12)
    unlimited = replace(model, log_growth=math.inf).predict(asked)[:, 1]
    np.testing.assert_array_equal(unlimited[excess == 0], near[excess == 0])
    assert np.isinf(unlimited[excess > 0]).all()


def test_a_scheme_or_function_never_seen_is_outside(predictor: LatencyPredictor, unseen: list[KernelSpec]) -> None:
    model = predictor._kernels
    assert isinstance(model, KernelModel)
    known = next(spec for spec in unseen if spec.op == "conv" and spec.sparsity.rate == 1)
    strange = [replace(known, epilogue=("gelu",)), known.with_sparsity(Sparsity("block_punched(64x1)", 2))]
    asked = [known, *strange]
    shapes = model.encoder.shapes(model.encoder.encode(asked, schedules(asked, AVX512)))
    excess = model.extent.excess([spec.op for spec in asked], shapes)
    assert excess[0] < 1 <= excess[1:].min()


def test_networks_are_sums_plus_overhead(predictor: LatencyPredictor, unseen: list[KernelSpec], law: Law) -> None:
    generator = np.random.default_rng(0)
    networks = [
        [unseen[i] for i in generator.integers(len(unseen), size=n)] for n in generator.integers(5, 40, size=24)
    ]
    truth = [sum(map(law, network)) / 1e3 + 0.02 for network in networks]
    fitted = LatencyPredictor(predictor.device, predictor._kernels, predictor.network)
    assert fitted.fit_networks(networks[:16], truth[:16]) is fitted
    assert fitted.network.overhead_ms >= 0
    first, second = networks[0], networks[1]
    both, one, two = (fitted.predict_network(specs).mean_ms for specs in ([*first, *second], first, second))
    assert both == pytest.approx(one + two - fitted.network.overhead_ms)
    assert fitted.predict_network([]).mean_ms == pytest.approx(fitted.network.overhead_ms)
    assert fitted.predict_network(first[::-1]).mean_ms == pytest.approx(one)
    report = fitted.network_accuracy(networks[16:], truth[16:])
    assert report["within_10"].item() == 100
    assert report["count"].item() == 8


def test_asking_again_costs_a_look_up(
    predictor: LatencyPredictor, unseen: list[KernelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = predictor.predict(unseen)
    monkeypatch.setattr(KernelModel, "predict", lambda *_: pytest.fail("predicted twice"))
    pd.testing.assert_frame_equal(predictor.predict(unseen), before)
    predictor.predict_network([*unseen, *unseen])


def test_prediction_does_not_depend_on_what_is_asked_with_it(table: pd.DataFrame, unseen: list[KernelSpec]) -> None:
    alone, together = (LatencyPredictor.fit(table, DEVICE) for _ in range(2))
    one = alone.predict([unseen[3]])["predicted_us"].item()
    many = together.predict([unseen[8], unseen[3], unseen[3], unseen[1]])["predicted_us"]
    assert many[1] == many[2] == one


def test_nothing_asked_nothing_answered(predictor: LatencyPredictor) -> None:
    assert len(predictor.predict([])) == 0


def test_too_few_or_impossible_times_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(TooFewMeasurements, match="at least 20"):
        LatencyPredictor.fit(table.head(15), DEVICE)
    wrong = table.copy()
    wrong["median_us"] = 0.0
    with pytest.raises(InvalidMeasurement, match="positive and finite"):
        LatencyPredictor.fit(wrong, DEVICE)
