"""The predictor stage, without a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from compiler.target import AVX512
from latency_model import Device, LatencyPredictor
from latency_model.errors import TooFewMeasurements
from latency_model.held_out import is_held_out
from latency_model.inventory import common_kernels
from latency_model.runner import make_runner
from scripts.predictor import _fitted

DEVICE = Device("new", AVX512, make_runner("local"))
SPECS = [spec for spec in common_kernels(60, seed=2) if spec.op == "conv" and not is_held_out(spec)]


def table(count: int, factor: float) -> pd.DataFrame:
    us = [factor * (1 + spec.macs_kept / 1e4) for spec in SPECS[:count]]
    return pd.DataFrame([spec.to_dict() for spec in SPECS[:count]]).assign(median_us=us, noise=0.02)


def test_few_kernels_are_enough_with_another_device_to_start_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = LatencyPredictor.fit(table(len(SPECS), 1.0), DEVICE)
    source.save(tmp_path)
    few, alone = table(6, 3.0), OmegaConf.create({"source": [], "seed": 0})
    with pytest.raises(TooFewMeasurements):
        _fitted(alone, few, DEVICE)
    started = _fitted(OmegaConf.create({"source": [str(tmp_path)], "seed": 0}), few, DEVICE)
    assert "1 other device(s): scale" in capsys.readouterr().out
    expected = 3 * source.predict(SPECS)["predicted_us"]
    np.testing.assert_allclose(started.predict(SPECS)["predicted_us"], expected, rtol=0.02)
