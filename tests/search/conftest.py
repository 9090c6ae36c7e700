"""Spaces, latencies and accuracies that the tests of the search share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from latency_model import LatencyPredictor, NetworkPrediction, load_device
from search import kernel_specs
from supernet import Candidate, SearchSpace, SuperNet, make_space
from training import save_checkpoint

Function = Callable[[Candidate], float]


TOY: dict[str, Any] = {
    "name": "toy",
    "stem": {"channels": 8, "stride": 2, "activation": "relu"},
    "stages": [{"sites": 3, "channels": 16, "stride": 2, "shortcut": False, "activation": "relu"}],
    "head": {"channels": 16, "activation": "relu"},
    "operators": ["conv1x1", "conv3x3"],
    "schemes": ["block_punched(8x4)"],
    "rates": [1, 2, 5],
    "reference": "conv3x3",
}


@pytest.fixture(scope="session")
def tiny() -> SearchSpace:
    """The space that ships as `space=tiny`."""
    path = Path(__file__).parents[2] / "conf" / "space" / "tiny.yaml"
    return make_space(yaml.safe_load(path.read_text()), (1, 32, 32), 10)


@pytest.fixture(scope="session")
def toy_config() -> dict[str, Any]:
    """The configuration of `toy`."""
    return TOY


@pytest.fixture(scope="session")
def toy() -> SearchSpace:
    """Three sites of six choices: 216 candidates."""
    space = make_space(TOY, (1, 32, 32), 10)
    assert space.size == 6**3
    return space


@pytest.fixture(scope="session")
def latency() -> Function:
    """Milliseconds that add up over the sites: 0.1 and a share of the dense operator's cost."""
    cost = {"conv1x1": 0.2, "conv3x3": 1.0, "dw3x3_pw": 0.3, "pw_dw3x3_pw(3)": 0.6, "pw_dw3x3_pw(6)": 0.9, "skip": 0.0}

    def ms(candidate: Candidate) -> float:
        return 0.1 + sum(cost[choice.operator] / choice.sparsity.rate for choice in candidate.choices)

    return ms


@pytest.fixture(scope="session")
def predicted(latency: Function) -> Callable[[Candidate], NetworkPrediction]:
    """`latency` as a prediction without an interval."""

    def predict(candidate: Candidate) -> NetworkPrediction:
        return NetworkPrediction(*3 * [latency(candidate)])

    return predict


@pytest.fixture(scope="session")
def accuracy() -> Function:
    """Percent points: more capacity is better with diminishing returns, and neighbours should differ in operator."""

    def percent(candidate: Candidate) -> float:
        worth = {
            "conv3x3": 3.0,
            "pw_dw3x3_pw(6)": 2.7,
            "pw_dw3x3_pw(3)": 2.4,
            "dw3x3_pw": 2.0,
            "conv1x1": 1.0,
            "skip": 0.0,
        }
        capacity = sum(worth[c.operator] / c.sparsity.rate**0.3 for c in candidate.choices)
        operators = [choice.operator for choice in candidate.choices]
        variety = sum(a != b for a, b in pairwise(operators))
        return 80 + capacity + 0.7 * variety

    return percent


@pytest.fixture(scope="session")
def made_up_predictor(toy: SearchSpace, tiny: SearchSpace) -> LatencyPredictor:
    """A real predictor of a made-up device."""
    rng = np.random.default_rng(0)
    networks = [kernel_specs(space, space.sample(rng)) for space in (toy, tiny) for _ in range(20)]
    specs = list(dict.fromkeys(spec for network in networks for spec in network))
    us = [1.0 + spec.macs_kept / 1e4 + spec.in_channels * spec.height * spec.width / 1e4 for spec in specs]
    table = pd.DataFrame([{**spec.to_dict(), "median_us": time} for spec, time in zip(specs, us, strict=True)])
    return LatencyPredictor.fit(table, load_device("local"))


@pytest.fixture
def job(
    tmp_path: Path, toy: SearchSpace, toy_config: dict[str, Any], made_up_predictor: LatencyPredictor
) -> dict[str, Any]:
    """What `run_search` takes, for a run directory that has an untrained supernet and that predictor."""
    save_checkpoint(tmp_path / "supernet.safetensors", {"supernet": SuperNet(toy, seed=0).state_dict()})
    made_up_predictor.save(tmp_path / "predictor")
    return {
        "run_dir": str(tmp_path),
        "data": {"name": "digits", "root": "data", "validation": 0.25},
        "space": toy_config,
        "device": {"name": "local"},
        "budget": "1ms",
        "seed": 0,
        "search": {"sampler": "npas", "trials": 4, "recalibration_batches": 1},
    }
