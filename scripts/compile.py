"""Compile a network of the user's own: native code, its check against torch, its times, an ONNX file, a C project."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table
from torch import Tensor, nn

from compiler import CompiledModel, compile_graph, export_onnx
from compiler.capture import capture
from compiler.graph import Graph
from compiler.passes import PASSES
from scripts import inputs
from scripts.console import console, say
from scripts.example_inputs import example_inputs
from scripts.files import write_text
from scripts.user_model import load_model, load_weights
from scripts.verification import outputs_of, verified


def run(config: DictConfig) -> None:
    """Compile `config.model` for `config.device` into the directory `config.out`.

    Nothing is written before the compiled network has computed what torch does, to 1e-4 of the largest output. Code for
    another processor cannot be checked here; its C project gets an input and what torch computes from it.

    Raises:
        ModelNotFound, NotAModule, CheckpointMismatch, InvalidSetting: the configuration names something unusable.
        NotRunnable: the network cannot be run on `config.input`.
        ResultDiffers: the compiled network computes something else.
        CompilerError: what `compile_model` and `export_onnx` refuse.
    """
    examples = example_inputs(inputs.mapping(config)["input"], "compile")
    target = inputs.device(config).target
    model = load_model(config.model).eval()
    if config.checkpoint is not None:
        load_weights(model, Path(config.checkpoint))
    expected = outputs_of(model, examples)
    graphs = _graphs(model, examples)
    compiled = compile_graph(graphs[-1][1], target, config.threads, tune=config.tune and target.runs_here)
    here = target.runs_here
    if here:
        error = verified(compiled, examples, expected)
        say(f"compiled for {target.name}; differs from torch by {error:.1e} of the largest output")
        say(f"one image on {config.threads} thread(s): {compiled.time(config.seconds)}")
    else:
        say(f"compiled for {target.name}, which is not this processor: neither checked against torch nor timed here")
    console.print(layer_table(compiled))
    out = Path(config.out)
    compiled.save(out)
    say(f"{out}: kernels.c, libmodel.so, constants.safetensors, manifest.json")
    if config.dump:
        for index, (name, graph) in enumerate(graphs):
            write_text(out / "graphs" / f"{index}_{name}.txt", graph.dump())
        say(f"{out / 'graphs'}: the graph after each pass")
    if config.standalone:
        _write_project(compiled, examples, expected, out / "standalone")
    if config.onnx:
        report = export_onnx(model, examples, out / "model.onnx")
        say(
            f"{report.path}: {report.bytes / 1e6:.2f} MB, differs from torch by {report.max_error:.1e} in ONNX Runtime "
            f"at batch sizes {' and '.join(map(str, report.batch_sizes))}"
        )
    if here:
        say(f'Next: from compiler import load_compiled; load_compiled("{out}")(x)')
    elif not config.standalone:
        say("Next: the same with standalone=true, for a program that runs on the device")


def layer_table(compiled: CompiledModel) -> Table:
    """A kernel a row; what analysis estimates and what was measured stand in columns of their own."""
    table = Table(title=f"kernels on {compiled.program.target.name}", box=None, padding=(0, 2, 0, 0))
    table.add_column("layer", overflow="fold")
    for heading in ("kernel", "scheme"):
        table.add_column(heading, no_wrap=True)
    table.add_column("rate", justify="right", no_wrap=True)
    table.add_column("form", no_wrap=True)
    for heading in ("estimated,\nkcycles", "measured,\nµs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in compiled.kernels.to_dict("records"):
        measured = float(row["measured_us"])
        table.add_row(
            str(row["layer"]),
            str(row["family"]),
            str(row["scheme"]),
            f"{row['rate']:.2f}",
            str(row["form"]),
            f"{row['cycles'] / 1000:.1f}",
            "–" if measured != measured else f"{measured:.1f}",
        )
    return table


def _graphs(model: nn.Module, examples: Sequence[Tensor]) -> list[tuple[str, Graph]]:
    """The graph as it was captured and after each pass, by name."""
    graphs = [("capture", capture(model, examples))]
    for transform in PASSES:
        graphs.append((transform.__name__, transform(graphs[-1][1])))
    return graphs


def _write_project(
    compiled: CompiledModel, examples: Sequence[Tensor], expected: Sequence[Tensor], folder: Path
) -> None:
    compiled.build_standalone(folder)
    names = [f"input{index}.bin" for index in range(len(examples))]
    for name, value in zip(names, examples, strict=True):
        value.float().numpy().tofile(folder / name)
    for index, value in enumerate(expected):
        value.contiguous().numpy().tofile(folder / f"expected{index}.bin")
    say(f"{folder}: a C project with an input and what torch computes from it")
    say(f"  make -C {folder}, then in it, on the device: ./network -e expected {' '.join(names)}")


if __name__ == "__main__":
    from scripts.cli import main

    main(["compile", *sys.argv[1:]])
