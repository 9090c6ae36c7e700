"""Measure pruned network, dense network and ONNX Runtime in one interleaved run; accuracy on test data, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from compiler import CompiledModel, load_compiled
from latency_model import compare_runtimes, onnx_peer
from scripts import inputs
from scripts.files import read_json
from scripts.prune.measured import LayerMetrics, PruneMetrics
from scripts.prune.planned import Planned
from scripts.prune.subject import Subject
from scripts.user_model import load_weights
from training import evaluate

_NETWORKS = ("pruned", "dense")


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `metrics.json`."""
    subject = Subject.load(config)
    arrays = [value.numpy() for value in subject.examples]
    compiled = {name: load_compiled(run_dir / name) for name in _NETWORKS}
    peers = {"dense": compiled["dense"].run_once()}
    peers |= {f"onnxruntime {name}": onnx_peer(run_dir / name / "model.onnx", *arrays) for name in _NETWORKS}
    table = compare_runtimes(compiled["pruned"], peers, seconds=config.seconds).set_index("runtime")
    ms = {str(name): float(value) for name, value in table["measured_ms"].items()}
    planned = Planned.read(run_dir / "plan.json")
    training, exported = read_json(run_dir / "training.json"), read_json(run_dir / "export.json")
    accuracies = {name: _accuracy(subject, run_dir / name / "model.safetensors") for name in _NETWORKS}
    PruneMetrics(
        algorithm=training["algorithm"],
        epochs=training["epochs"],
        validation_accuracy=accuracies["pruned"][0],
        dense_validation_accuracy=accuracies["dense"][0],
        test_accuracy=accuracies["pruned"][1],
        dense_test_accuracy=accuracies["dense"][1],
        budget_ms=None if config.budget is None else inputs.budget(config).resolve(ms["dense"]),
        predicted_ms=planned.predicted_ms,
        predicted_lower_ms=planned.predicted_lower_ms,
        predicted_upper_ms=planned.predicted_upper_ms,
        measured_ms=ms["npas"],
        measured_spread=float(table["spread"]["npas"]),
        dense_ms=ms["dense"],
        onnxruntime_ms=ms["onnxruntime pruned"],
        onnxruntime_dense_ms=ms["onnxruntime dense"],
        parameters=exported["pruned"]["parameters"],
        dense_parameters=exported["dense"]["parameters"],
        onnx_bytes=exported["pruned"]["onnx_bytes"],
        dense_onnx_bytes=exported["dense"]["onnx_bytes"],
        layers=tuple(_layers(subject.model, planned, training["layers"], _by_layer(compiled["pruned"]))),
    ).write(run_dir / "metrics.json")


def _accuracy(subject: Subject, weights: Path) -> tuple[float | None, float | None]:
    """Percent of the validation and of the test pictures that are right."""
    if subject.data is None:
        return None, None
    load_weights(subject.model, weights)
    return evaluate(subject.model, subject.data.validation).accuracy, evaluate(
        subject.model, subject.data.test
    ).accuracy


def _by_layer(compiled: CompiledModel) -> dict[str, float]:
    """Measured milliseconds of each layer's kernels."""
    compiled.time()
    return {str(layer): float(us) / 1e3 for layer, us in compiled.kernels.groupby("layer")["measured_us"].sum().items()}


def _layers(
    model: nn.Module, planned: Planned, counts: Mapping[str, Any], measured: Mapping[str, float]
) -> Iterator[LayerMetrics]:
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weights = module.weight.numel()
            yield LayerMetrics(
                name=name,
                sparsity=str(planned.plan.get(name, "dense")),
                weights=weights,
                kept=counts.get(name, {"kept": weights})["kept"],
                predicted_ms=(planned.layers_ms or {}).get(name),
                measured_ms=measured.get(name),
                skipped="" if name in planned.plan else planned.skipped.get(name, "the plan does not name it"),
            )
