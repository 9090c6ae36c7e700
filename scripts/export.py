"""Compile dense network and winners to native libraries, and write them as ONNX files."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from compiler import compile_model, export_onnx
from scripts import inputs, networks
from scripts.console import progress
from scripts.files import write_json
from scripts.finetune import finished_networks


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `model.onnx`, `kernels.c`, `libmodel.so` and what belongs to them beside each `model.safetensors`."""
    example = inputs.dataset(config).validation.images[:1]
    target = inputs.device(config).target
    written = {}
    with progress() as bar:
        folders = finished_networks(run_dir)
        task = bar.add_task("compiling, exporting", total=len(folders), note="")
        for folder in folders:
            network = networks.load(config, folder / "model.safetensors")
            compile_model(network, example, device=target).save(folder)
            onnx = export_onnx(network, example, folder / "model.onnx")
            written[str(folder.relative_to(run_dir))] = {
                "onnx_bytes": onnx.bytes,
                "onnx_batch_sizes": list(onnx.batch_sizes),
                "onnx_max_error": onnx.max_error,
            }
            bar.update(task, advance=1, note=f"{onnx.bytes / 1000:.0f} kB")
    write_json(run_dir / "export.json", written)


if __name__ == "__main__":
    from scripts.cli import main

    main(["export", *sys.argv[1:]])
