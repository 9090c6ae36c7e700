"""Measure dense network, winners and ONNX Runtime in one interleaved run on the device; test accuracy, once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from scripts import inputs
from scripts.files import read_json, write_json
from scripts.finetune import finished_networks
from scripts.metrics import KernelTime, Metrics
from scripts.networks import load as load_network
from scripts.side_by_side import ONNX, Records, compare
from search.cluster.parcel import pack
from training import evaluate


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `measured.json` and each network's `metrics.json`."""
    data = inputs.dataset(config)
    image = np.random.default_rng(config.seed).standard_normal((1, *data.input_shape), np.float32)
    dense, *winners = finished_networks(run_dir)
    networks = {folder.name: pack(folder) for folder in (dense, *winners)}
    table, kernels = inputs.cluster(config).on_device(compare, networks, image, config.winners.seconds)
    write_json(run_dir / "measured.json", table)
    ms, spread = ({row["runtime"]: float(row[name]) for row in table} for name in ("measured_ms", "spread"))
    limits_ms = inputs.budgets(config).measured(ms[dense.name])
    exported = read_json(run_dir / "export.json")
    modules = {folder.name: load_network(config, folder / "model.safetensors") for folder in (dense, *winners)}
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
            onnxruntime_ms=ms[ONNX + folder.name],
            onnxruntime_spread=spread[ONNX + folder.name],
            onnxruntime_dense_ms=ms[ONNX + dense.name],
            parameters=parameters[folder.name],
            dense_parameters=parameters[dense.name],
            onnx_bytes=exported[str(folder.relative_to(run_dir))]["onnx_bytes"],
            dense_onnx_bytes=exported[str(dense.relative_to(run_dir))]["onnx_bytes"],
            epochs=known["epochs"],
            algorithm=known["algorithm"],
            kernels=_kernels(kernels[folder.name]),
            sites=tuple(known["sites"]),
        ).write(folder / "metrics.json")


def _kernels(rows: Records) -> tuple[KernelTime, ...]:
    return tuple(
        KernelTime(
            layer=str(row["layer"]),
            op=str(row["op"]),
            form=str(row["form"]),
            tile=str(row["tile"]),
            why=str(row["why"]),
            measured_us=float(row["measured_us"]),
        )
        for row in rows
    )


if __name__ == "__main__":
    from scripts.cli import main

    main(["measure", *sys.argv[1:]])
