"""Devices that obey laws: what is known of one must come out as far as it holds for another."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compiler import KernelSpec, schedule
from compiler.target import AVX512
from latency_model import artifact
from latency_model.device import Device
from latency_model.errors import InvalidDevice, InvalidMeasurement, PredictorCorrupt, PredictorNotFound, UnknownKernel
from latency_model.held_out import is_held_out
from latency_model.kernel_transfer import Transfer
from latency_model.predictor import LatencyPredictor
from latency_model.runner import Floats, make_runner

DEVICE = Device("new", AVX512, make_runner("local"))


def law(spec: KernelSpec, cycles: float, traffic: float, fine: float, swish: float) -> float:
    """Roofline of given speeds; fine blocks and one activation cost more, more so on some devices."""
    chosen = schedule(spec, AVX512)
    penalty = (fine if "8x4" in str(spec.sparsity) else 1.0) * (swish if "hard_swish" in spec.epilogue else 1.0)
    return max(chosen.cycles * cycles, chosen.bytes * traffic) * penalty + 0.4


def quick(spec: KernelSpec) -> float:
    return law(spec, 1 / 3e3, 1 / 1e4, 2.0, 1.1)


def slow(spec: KernelSpec) -> float:
    return law(spec, 1 / 1e3, 1 / 2e3, 1.0, 1.8)


def between(spec: KernelSpec) -> float:
    return law(spec, 1 / 2e3, 1 / 4e3, math.sqrt(2.0), math.sqrt(1.1 * 1.8))


def strange(spec: KernelSpec) -> float:
    """Like no other: what is dear elsewhere is cheap."""
    return law(spec, 1 / 2e3, 1 / 4e3, 0.4, 0.5) * (3.0 if spec.op == "depthwise" else 1.0)


def table_of(specs: Sequence[KernelSpec], us: Sequence[float] | Floats) -> pd.DataFrame:
    return pd.DataFrame([spec.to_dict() for spec in specs]).assign(median_us=us, noise=0.02)


@pytest.fixture(scope="module")
def trainable(pool: tuple[KernelSpec, ...]) -> list[KernelSpec]:
    return [spec for spec in pool if not is_held_out(spec)]


@pytest.fixture(scope="module")
def asked(pool: tuple[KernelSpec, ...]) -> list[KernelSpec]:
    return [spec for spec in pool if is_held_out(spec)]


@pytest.fixture(scope="module")
def sources(trainable: list[KernelSpec]) -> list[LatencyPredictor]:
    some = trainable[:150]
    return [LatencyPredictor.fit(table_of(some, [one(spec) for spec in some]), DEVICE) for one in (quick, slow)]


@pytest.fixture(scope="module")
def empty(trainable: list[KernelSpec]) -> pd.DataFrame:
    return table_of(trainable[:1], [1.0]).head(0)


def off(predictor: LatencyPredictor, specs: Sequence[KernelSpec], truth: Sequence[float]) -> float:
    """Root mean square of the log ratio."""
    predicted = predictor.predict(specs)["predicted_us"].to_numpy()
    return float(np.sqrt(np.mean(np.log(predicted / np.array(truth)) ** 2)))


def transferred(
    specs: Sequence[KernelSpec], us: Sequence[float], sources: Sequence[LatencyPredictor]
) -> tuple[LatencyPredictor, Transfer]:
    return LatencyPredictor.transfer(table_of(specs, us), DEVICE, sources)


def test_without_a_measurement_speed_is_the_data_sheets_and_the_rest_the_sources(
    sources: list[LatencyPredictor], empty: pd.DataFrame, asked: list[KernelSpec]
) -> None:
    sheet = replace(DEVICE, peak_gflops=4 * 16 * 2.0, bandwidth_gb_s=4.0)
    assert (sheet.cycle_us, sheet.byte_us) == (pytest.approx(1 / 2e3), pytest.approx(1 / 4e3))
    predictor, found = LatencyPredictor.transfer(empty, sheet, sources)
    assert found.mode == "specs"
    assert found.errors == {}
    truth = [between(spec) for spec in asked]
    assert off(predictor, asked, truth) < 0.25
    blind, _ = LatencyPredictor.transfer(empty, DEVICE, sources[:1])
    np.testing.assert_allclose(blind.predict(asked)["predicted_us"], sources[0].predict(asked)["predicted_us"])
    assert off(blind, asked, truth) > 0.3
    assert np.isinf(predictor.predict(asked)["upper_us"]).all()


def test_ten_kernels_tell_the_scale_of_a_device_that_is_like_a_source(
    sources: list[LatencyPredictor], trainable: list[KernelSpec], asked: list[KernelSpec]
) -> None:
    some = trainable[200:210]
    predictor, found = transferred(some, [2.5 * slow(spec) for spec in some], sources)
    assert found.mode == "scale"
    assert found.errors["scale"] < found.errors["specs"]
    expected = 2.5 * sources[1].predict(asked)["predicted_us"]
    np.testing.assert_allclose(predictor.predict(asked)["predicted_us"], expected, rtol=0.05)
    assert np.isfinite(predictor.predict(asked)["upper_us"]).all()
    np.testing.assert_array_equal(predictor.predict(some)["predicted_us"], [2.5 * slow(spec) for spec in some])


def test_forty_kernels_tell_the_mixture_of_a_device_that_is_between_sources(
    sources: list[LatencyPredictor], trainable: list[KernelSpec], asked: list[KernelSpec]
) -> None:
    some = trainable[200:240]
    predictor, found = transferred(some, [between(spec) for spec in some], sources)
    assert found.mode == "mixture"
    assert found.errors["mixture"] < min(found.errors["specs"], found.errors["scale"])
    truth = [between(spec) for spec in asked]
    assert off(predictor, asked, truth) < 0.06
    alone = LatencyPredictor.fit(table_of(some, [between(spec) for spec in some]), DEVICE)
    assert off(predictor, asked, truth) < 0.5 * off(alone, asked, truth)
    found_table = predictor.predict(asked)
    covered = (found_table["lower_us"] <= truth) & (truth <= found_table["upper_us"])
    assert covered.mean() >= 0.75


def test_hundreds_of_kernels_of_a_device_like_no_other_speak_for_themselves(
    sources: list[LatencyPredictor], trainable: list[KernelSpec]
) -> None:
    some = trainable[:220]
    us = [strange(spec) for spec in some]
    predictor, found = transferred(some, us, sources)
    assert found.mode == "own"
    assert found.errors["own"] < 0.5 * min(found.errors[mode] for mode in ("specs", "scale", "mixture"))
    own = LatencyPredictor.fit(table_of(some, us), DEVICE)
    rest = trainable[220:300]
    pd.testing.assert_frame_equal(predictor.predict(rest), own.predict(rest))


def test_saved_with_its_sources_it_predicts_the_same_bit_for_bit(
    sources: list[LatencyPredictor],
    trainable: list[KernelSpec],
    asked: list[KernelSpec],
    empty: pd.DataFrame,
    tmp_path: Path,
) -> None:
    some = trainable[200:215]
    predictor, _ = transferred(some, [between(spec) for spec in some], sources)
    again, _ = LatencyPredictor.transfer(empty, DEVICE, [predictor, sources[0]])
    for number, saved in enumerate((predictor, again)):
        saved.save(tmp_path / str(number))
        loaded = LatencyPredictor.load(tmp_path / str(number))
        pd.testing.assert_frame_equal(loaded.predict(asked), saved.predict(asked), check_exact=True)
        np.testing.assert_array_equal(loaded.disagreement(asked), saved.disagreement(asked))
    name = json.loads((tmp_path / "0" / "predictor.json").read_text())["sources"][1]
    index = tmp_path / "0" / name / "predictor.json"
    text = index.read_text()
    index.unlink()
    with pytest.raises(PredictorNotFound, match=name):
        LatencyPredictor.load(tmp_path / "0")
    index.write_text(text[:-40])
    with pytest.raises(PredictorCorrupt, match=name):
        LatencyPredictor.load(tmp_path / "0")


def test_whoever_is_killed_while_saving_leaves_the_earlier_predictor(
    sources: list[LatencyPredictor],
    trainable: list[KernelSpec],
    asked: list[KernelSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    some = trainable[200:240]
    first, second = (
        transferred(some, [factor * between(spec) for spec in some], known)[0]
        for factor, known in ((1, sources), (2, sources[::-1]))
    )
    first.save(tmp_path)
    write = artifact._write

    def killed(path: Path, text: str) -> None:
        if path == tmp_path / "predictor.json":
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(artifact, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        second.save(tmp_path)
    pd.testing.assert_frame_equal(LatencyPredictor.load(tmp_path).predict(asked), first.predict(asked))
    monkeypatch.undo()
    second.save(tmp_path)
    pd.testing.assert_frame_equal(LatencyPredictor.load(tmp_path).predict(asked), second.predict(asked))
    assert len(list(tmp_path.glob("source-*"))) == 2
    sources[0].save(tmp_path)
    assert not list(tmp_path.glob("source-*"))


def test_from_a_source_of_infinite_intervals_come_infinite_ones(
    sources: list[LatencyPredictor], trainable: list[KernelSpec], asked: list[KernelSpec], empty: pd.DataFrame
) -> None:
    blind, _ = LatencyPredictor.transfer(empty, DEVICE, sources)
    some = trainable[200:240]
    predictor, _ = transferred(some, [between(spec) for spec in some], [blind])
    found = predictor.predict(asked)
    assert np.isfinite(found["predicted_us"]).all()
    assert (found["lower_us"] == 0).all()
    assert np.isinf(found["upper_us"]).all()


def test_the_same_seed_gives_the_same_transfer(
    sources: list[LatencyPredictor], trainable: list[KernelSpec], asked: list[KernelSpec]
) -> None:
    some = trainable[200:230]
    (one, first), (two, second) = (transferred(some, [between(spec) for spec in some], sources) for _ in range(2))
    assert first.errors == second.errors
    pd.testing.assert_frame_equal(one.predict(asked), two.predict(asked), check_exact=True)


def test_what_no_source_knows_and_impossible_times_are_refused(
    sources: list[LatencyPredictor], empty: pd.DataFrame, trainable: list[KernelSpec]
) -> None:
    predictor, _ = LatencyPredictor.transfer(empty, DEVICE, sources)
    with pytest.raises(UnknownKernel, match="max_pool"):
        predictor.predict([KernelSpec("max_pool", 32, 32, 8, 8, (2, 2), (2, 2))])
    with pytest.raises(InvalidMeasurement, match="positive and finite"):
        transferred(trainable[:3], [1.0, 0.0, 2.0], sources)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "fast", True])
def test_a_data_sheet_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(InvalidDevice, match="peak_gflops"):
        Device.from_config({"name": "new", "peak_gflops": value})
    assert Device.from_config({"name": "new", "target": "x86_avx512", "peak_gflops": 262}).cycle_us == pytest.approx(
        64 / 262e3
    )
