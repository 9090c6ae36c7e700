"""Measure dense network, winners and ONNX Runtime in one interleaved run; test accuracy, once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from compiler import CompiledModel, load_compiled
from latency_model import compare_runtimes, onnx_peer
from scripts import inputs, networks
from scripts.files import read_json, write_json
from scripts.finetune import finished_networks
from scripts.metrics import KernelTime, Metrics
from training import evaluate

_ONNX = "onnxruntime "


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `measured.json` and each network's `metrics.json`."""
    data = inputs.dataset(config)
    image = np.random.default_rng(config.seed).standard_normal((1, *data.input_shape), np.float32)
    dense, *winners = finished_networks(run_dir)
    compiled = {folder.name: load_compiled(folder) for folder in (dense, *winners)}
    peers = {winner.name: compiled[winner.name].run_once() for winner in winners}
    peers |= {_ONNX + folder.name: onnx_peer(folder / "model.onnx", image) for folder in (dense, *winners)}
    table = compare_runtimes(compiled[dense.name], peers, seconds=config.winners.seconds)
    table.loc[0, "runtime"] = dense.name
    write_json(run_dir / "measured.json", table.to_dict("records"))
    ms, spread = (dict(zip(table["runtime"], table[name].tolist(), strict=True)) for name in ("measured_ms", "spread"))
    limits_ms = inputs.budgets(config).measured(ms[dense.name])
    exported = read_json(run_dir / "export.json")
    modules = {folder.name: networks.load(config, folder / "model.safetensors") for folder in (dense, *winners)}
    parameters = {name: sum(weight.numel() for weight in network.parameters()) for name, network in modules.items()}
    accuracy = {name: evaluate(network, data.test).accuracy for name, network in modules.items()}
    for folder in (dense, *winners):
        known = read_json(folder / "candidate.json")
        Metrics(
            name=folder.name,
            candidate=tuple(known["candidate"]),
            validation_accuracy=known["validation_accuracy"],
            test_accuracy=accuracy[folder.name],
            supernet_accuracy=known["supernet_accuracy"],
            predicted_ms=known["predicted_ms"],
            predicted_lower_ms=known["predicted_lower_ms"],
            predicted_upper_ms=known["predicted_upper_ms"],
            measured_ms=ms[folder.name],
            measured_spread=spread[folder.name],
            budget_ms=min((limit for limit in limits_ms if ms[folder.name] <= limit), default=limits_ms[0]),
            dense_ms=ms[dense.name],
            dense_test_accuracy=accuracy[dense.name],
            onnxruntime_ms=ms[_ONNX + folder.name],
            onnxruntime_spread=spread[_ONNX + folder.name],
            onnxruntime_dense_ms=ms[_ONNX + dense.name],
            parameters=parameters[folder.name],
            dense_parameters=parameters[dense.name],
            onnx_bytes=exported[str(folder.relative_to(run_dir))]["onnx_bytes"],
            dense_onnx_bytes=exported[str(dense.relative_to(run_dir))]["onnx_bytes"],
            epochs=known["epochs"],
            algorithm=known["algorithm"],
            kernels=_kernels(compiled[folder.name]),
            sites=tuple(known["sites"]),
        ).write(folder / "metrics.json")


def _kernels(compiled: CompiledModel) -> tuple[KernelTime, ...]:
    compiled.time()
    return tuple(
        KernelTime(
            layer=str(row["layer"]),
            op=str(row["op"]),
            form=str(row["form"]),
            tile=str(row["tile"]),
            why=str(row["why"]),
            measured_us=float(row["measured_us"]),
        )
        for row in compiled.kernels.to_dict("records")
    )


if __name__ == "__main__":
    from scripts.cli import main

    main(["measure", *sys.argv[1:]])
