"""Compile dense and pruned network, hold both against torch, and write them as ONNX files."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from compiler import compile_model, export_onnx
from pruning import shrink
from pruning.errors import ShrinkRefused
from scripts import inputs
from scripts.console import say
from scripts.files import write_json
from scripts.prune.subject import Subject
from scripts.user_model import load_weights
from scripts.verification import outputs_of, verified


def run(config: DictConfig, run_dir: Path) -> None:
    """Write compiled libraries and `model.onnx` beside each `model.safetensors`, and `export.json`.

    Raises:
        ResultDiffers: a compiled network computes something else than torch.
    """
    subject = Subject.load(config)
    target = inputs.device(config).target
    written = {}
    for name in ("dense", "pruned"):
        folder, model = run_dir / name, subject.model
        load_weights(model, folder / "model.safetensors")
        expected = outputs_of(model, subject.examples)
        if name == "pruned":
            _shrink(model, subject)
        compiled = compile_model(model, subject.examples, device=target)
        error = verified(compiled, subject.examples, expected)
        compiled.save(folder)
        onnx = export_onnx(model, subject.examples, folder / "model.onnx")
        written[name] = {
            "compiled_error": error,
            "onnx_bytes": onnx.bytes,
            "onnx_batch_sizes": list(onnx.batch_sizes),
            "onnx_max_error": onnx.max_error,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        say(
            f"{name}: compiled, differs from torch by {error:.1e} of the largest output; ONNX {onnx.bytes / 1e3:.0f} kB"
        )
    write_json(run_dir / "export.json", written)


def _shrink(model: nn.Module, subject: Subject) -> None:
    try:
        shrink(model, subject.examples)
    except ShrinkRefused as refusal:
        say(f"whole filters stay in the ONNX file as zeros: {refusal}")
