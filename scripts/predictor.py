"""Second stage: fit the latency predictor, and say how good it is on what it never saw."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from latency_model import Device, KernelStore, LatencyPredictor
from scripts import inputs
from scripts.console import console, say
from scripts.files import read_json, write_json
from scripts.report.accuracy import terminal_table, worst_table
from search import timed_specs
from supernet import Candidate

_JUDGES = 3
"""Every third network is never fitted on."""


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `predictor/`, with `accuracy.json` in it for kernels and networks that were held out of every fit."""
    device = inputs.device(config)
    space = inputs.space(config, inputs.dataset(config))
    table = KernelStore(run_dir / "kernels.parquet").table_of(device.environment())
    if table["older"].any():
        say(f"{int(table['older'].sum())} of {len(table)} kernels were timed with another compiler or version of npas.")
    predictor = _fitted(config, table, device)
    networks: list[dict[str, Any]] = read_json(run_dir / "networks.json")
    specs = [timed_specs(space, Candidate.from_json(row["candidate"]), device.target) for row in networks]
    held_out = [index % _JUDGES == 0 for index in range(len(networks))]
    fitted = [index for index, held in enumerate(held_out) if not held]
    predictor.fit_networks([specs[i] for i in fitted], [networks[i]["measured_ms"] for i in fitted])
    predictor.save(run_dir / "predictor")
    kernels, judged = predictor.accuracy(table), predictor.judged(table)
    rows = [
        {
            "candidate": row["candidate"],
            "measured_ms": row["measured_ms"],
            "predicted_ms": prediction.mean_ms,
            "lower_ms": prediction.lower_ms,
            "upper_ms": prediction.upper_ms,
            "held_out": held,
        }
        for row, prediction, held in zip(networks, map(predictor.predict_network, specs), held_out, strict=True)
    ]
    checked = {"kernels": _records(kernels), "networks": rows, "judged": _records(judged)}
    write_json(run_dir / "predictor" / "accuracy.json", checked)
    unseen = [index for index, held in enumerate(held_out) if held]
    whole = predictor.network_accuracy([specs[i] for i in unseen], [networks[i]["measured_ms"] for i in unseen])
    console.print(terminal_table(pd.concat([kernels, whole.assign(op="whole networks")])))
    console.print(worst_table(judged))


def _fitted(config: DictConfig, table: pd.DataFrame, device: Device) -> LatencyPredictor:
    """From what was measured, and from the predictors of other devices if there are any."""
    if not config.source:
        return LatencyPredictor.fit(table, device, seed=config.seed)
    predictor, found = LatencyPredictor.transfer(table, device, inputs.sources(config), seed=config.seed)
    errors = ", ".join(f"{mode} {100 * error:.1f} %" for mode, error in found.errors.items())
    say(f"Predictions start from {len(config.source)} other device(s): {found.mode}. Errors left out: {errors or '-'}.")
    return predictor


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON, which has no NaN: what is unknown is null."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()} for row in frame.to_dict("records")
    ]


if __name__ == "__main__":
    from scripts.cli import main

    main(["predictor", *sys.argv[1:]])
