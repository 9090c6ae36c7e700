"""A finished run directory made by hand: small, and with every case that a report has to tell."""

import json

import numpy as np
import optuna
from omegaconf import OmegaConf

from compiler import KernelSpec
from scripts.metrics import KernelTime, Metrics
from scripts.overrides_file import write_overrides
from scripts.run_directory import Record

CANDIDATE = ("conv3x3|block_punched(16x1)|5", "skip|dense|1", "dw3x3_pw|filter(8)|2")
DENSE = ("conv3x3|dense|1",) * 3
CONFIG = {
    "data": {"name": "digits"},
    "space": {"name": "tiny"},
    "budget": "50%",
    "search": {"sampler": "npas", "steps": 20, "trials": 12},
    "winners": {"pareto": 3},
    "seed": 0,
}
KERNELS = (
    KernelTime("", "pack", "pack", "", "", 2.0),
    KernelTime("stem.conv1", "conv", "first", "4x16", "", 10.0),
    KernelTime("sites.0.conv1", "conv", "block_punched", "8x16", "", 30.0),
    KernelTime("sites.2.conv1", "depthwise", "depthwise", "1x16", "", 8.0),
    KernelTime("sites.2.conv2", "conv", "dense", "4x16", "sparse would be slower: 12 weights a group", 20.0),
    KernelTime("classifier", "linear", "dense", "1x16", "", 5.0),
)


def metrics(name, **changes):
    values = {
        "name": name,
        "candidate": CANDIDATE,
        "validation_accuracy": 98.0,
        "test_accuracy": 97.5,
        "supernet_accuracy": 95.0,
        "predicted_ms": 0.40,
        "predicted_lower_ms": 0.37,
        "predicted_upper_ms": 0.44,
        "measured_ms": 0.41,
        "measured_spread": 0.02,
        "budget_ms": 0.5,
        "dense_ms": 1.0,
        "dense_test_accuracy": 98.2,
        "onnxruntime_ms": 0.8,
        "onnxruntime_spread": 0.03,
        "onnxruntime_dense_ms": 1.6,
        "parameters": 120_000,
        "dense_parameters": 400_000,
        "onnx_bytes": 500_000,
        "dense_onnx_bytes": 1_600_000,
        "epochs": 12,
        "algorithm": "admm",
        "kernels": KERNELS,
    }
    return Metrics(**{**values, **changes})


def dense():
    return metrics(
        "dense",
        candidate=DENSE,
        validation_accuracy=98.6,
        test_accuracy=98.2,
        supernet_accuracy=None,
        algorithm=None,
        measured_ms=1.0,
        onnxruntime_ms=1.6,
        parameters=400_000,
        onnx_bytes=1_600_000,
    )


WINNERS = (
    metrics("1"),
    metrics("2", validation_accuracy=97.0, test_accuracy=98.1, measured_ms=0.3, supernet_accuracy=90.0),
    metrics("3", validation_accuracy=96.0, test_accuracy=96.0, measured_ms=0.2, supernet_accuracy=89.0),
    metrics("4", validation_accuracy=96.5, test_accuracy=96.9, measured_ms=0.45, supernet_accuracy=91.0),
    metrics("5", validation_accuracy=98.4, test_accuracy=98.0, measured_ms=0.52, supernet_accuracy=96.0),
)


def write_run(run_dir, winners=WINNERS, reference=None, within_10=91.0):
    """All files that the report reads."""
    (reference or dense()).write(run_dir / "dense" / "metrics.json")
    for winner in winners:
        winner.write(run_dir / "winners" / winner.name / "metrics.json")
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml({**CONFIG, "run_dir": str(run_dir)}))
    write_overrides(run_dir, ["search.steps=20", "search.trials=12"])
    networks = [
        {
            "candidate": "[]",
            "predicted_ms": 0.2 + 0.1 * index,
            "lower_ms": 0.18 + 0.09 * index,
            "upper_ms": 0.22 + 0.11 * index,
            "measured_ms": (0.2 + 0.1 * index) * (1.04 if index % 4 else 1.2),
            "held_out": index % 2 == 1 or index == 4,
        }
        for index in range(8)
    ]
    kernels = [
        {"op": "all", "count": 80, "within_5": 70.0, "within_10": within_10, "rmspe": 6.0, "spearman": 0.99},
        {"op": "pack", "count": 1, "within_5": 100.0, "within_10": 100.0, "rmspe": 1.0, "spearman": None},
    ]
    (run_dir / "predictor").mkdir()
    judged = [
        {
            **KernelSpec("conv", 16, 8 * (index + 1), 8, 8, (3, 3), padding=(1, 1), epilogue=("relu",)).to_dict(),
            "median_us": 1.0 + index,
            "predicted_us": (1.0 + index) * (1 + 0.01 * index),
            "noise": 0.01 if index else None,
        }
        for index in range(14)
    ]
    checked = {"kernels": kernels, "networks": networks, "judged": judged}
    (run_dir / "predictor" / "accuracy.json").write_text(json.dumps(checked))
    shortlist = [{"candidate": "[]", "within_budget": True, "measured_ms": 0.4, "winner": 1}] * len(winners)
    shortlist.append({"candidate": "[]", "within_budget": False, "measured_ms": 0.6, "winner": None})
    (run_dir / "shortlist.json").write_text(json.dumps(shortlist))
    write_search(run_dir)


def write_tournament(run_dir):
    """What a tournament leaves, where one was held."""
    table = [
        {"algorithm": "magnitude", "epochs": 2, "accuracy": 91.5, "outcome": "finished", "reason": ""},
        {"algorithm": "admm", "epochs": 2, "accuracy": 93.25, "outcome": "won", "reason": ""},
        {"algorithm": "gradual", "epochs": 1, "accuracy": 80.0, "outcome": "stopped", "reason": ""},
        {"algorithm": "smart", "epochs": 0, "accuracy": None, "outcome": "lost", "reason": "UnsupportedLayer: <no>"},
    ]
    curves = [
        {"algorithm": row["algorithm"], "epoch": epoch, "accuracy": row["accuracy"] - 5 * (row["epochs"] - epoch)}
        for row in table
        for epoch in range(1, row["epochs"] + 1)
    ]
    result = {"winner": "admm", "candidate": list(CANDIDATE), "table": table, "curves": curves}
    folder = run_dir / "winners" / "tournament"
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(result))


def write_search(run_dir, evaluations=12, gain=1.0):
    """A finished search, the accuracies of which grow by about `gain` percent points an evaluation."""
    Record("search", "0123456789ab", {}, "0.1", "2026-01-01T00:00:00+00:00", "2026-01-01T00:01:40+00:00", 100.0).write(
        run_dir
    )
    study = optuna.create_study(study_name="npas", storage=f"sqlite:///{run_dir / 'study.db'}", direction="maximize")
    rng = np.random.default_rng(0)
    for number in range(evaluations):
        accuracy = float(80 + gain * number + rng.normal())
        attributes = {"candidate": json.dumps(CANDIDATE), "accuracy": accuracy, "predicted_ms": 0.2 + 0.02 * number}
        study.add_trial(optuna.trial.create_trial(value=accuracy, user_attrs=attributes))
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))


def write_baseline(run_dir, evaluations, gain, **changes):
    """What another run leaves of its search by the sampler `random`."""
    run_dir.mkdir()
    config = {**CONFIG, "search": {"sampler": "random", "steps": 20}, "seed": 7, "run_dir": str(run_dir), **changes}
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(config))
    write_search(run_dir, evaluations, gain)
