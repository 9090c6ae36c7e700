"""`npas compile`: a network of the user's own, from the command line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hydra import compose, initialize_config_module
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

from compiler import compile_model, load_compiled
from compiler.passes import PASSES
from compiler.target import local_architecture
from scripts import cli, compile, user_model
from scripts.errors import CheckpointMismatch, InvalidSetting, ModelNotFound, NotAModule, NotRunnable, ResultDiffers
from scripts.user_model import load_model, load_weights
from training.errors import CheckpointCorrupt, CheckpointNotFound

NETWORK = """
import torch
from torch import nn
from layers import activation
from pruning import make_scheme

def build():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), activation(),
        nn.Conv2d(16, 32, 3, padding=1), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))
    weight = model[3].weight
    weight.data *= make_scheme("block_punched(16x1)").mask(weight.data, 4.0)
    return model

class Sum(nn.Module):
    def forward(self, left, right):
        return left + right, left * 2

class named(nn.Module):
    def forward(self, x):
        return {"x": x}

def tokens():
    return nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 4))

def number():
    return 7

def broken():
    raise ZeroDivisionError("the user's own")

rate = 3
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A user's file that imports another one beside it."""
    (tmp_path / "layers.py").write_text("from torch import nn\nactivation = nn.ReLU\n")
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """`npas compile` in this process, on a wide terminal, its arguments as they would be typed."""
    monkeypatch.setattr(sys, "argv", ["npas"])
    monkeypatch.setattr(compile, "console", Console(width=160, highlight=False))

    def run(*overrides: str) -> None:
        cli.main(["compile", *overrides])

    return run


def test_everything_is_written_and_computes_what_torch_computes(net: Path, command, capsys) -> None:
    out = net.parent / "out"
    command(*(f"model={net}:build", "input=[1,3,12,10]", "seconds=0.02", f"out={out}"), "standalone=true", "dump=true")
    shown = capsys.readouterr().out
    model, x = load_model(f"{net}:build").eval(), torch.randn(2, 3, 12, 10)
    with torch.no_grad():
        expected = model(x)
    assert float((load_compiled(out)(x) - expected).abs().max() / expected.abs().max()) <= 1e-5
    session = onnxruntime.InferenceSession(out / "model.onnx")
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * float(expected.abs().max()))
    dumps = [path.name for path in sorted((out / "graphs").iterdir())]
    names = ["capture", *(transform.__name__ for transform in PASSES)]
    assert dumps == [f"{index}_{name}.txt" for index, name in enumerate(names)]
    assert "batchnorm" in (out / "graphs" / dumps[0]).read_text()
    assert "batchnorm" not in (out / "graphs" / dumps[-1]).read_text()
    assert "differs from torch by" in shown
    assert "estimated" in shown
    assert "measured" in shown
    (row,) = [line for line in shown.splitlines() if "block_punched(16x1)" in line]
    kernels = load_compiled(out).kernels
    cells = row.split()
    (entry,) = kernels[kernels["scheme"] == "block_punched(16x1)"].to_dict("records")
    assert cells[:5] == ["3", entry["family"], "block_punched(16x1)", "4.00", entry["form"]]
    assert cells[5] == f"{entry['cycles'] / 1000:.1f}"
    assert float(cells[6]) > 0


def test_the_c_project_brings_an_example_and_what_torch_computes(net: Path, command, capsys) -> None:
    out = net.parent / "out"
    command(f"model={net}:Sum", "input=[[1,4,5,5],[1,4,5,5]]", "seconds=0.02", f"out={out}", "standalone=true")
    folder = out / "standalone"
    subprocess.run(["make", "--silent", "-C", folder], check=True)
    hint = next(line for line in capsys.readouterr().out.splitlines() if "./network" in line)
    arguments = hint.partition("./network ")[2].split()
    assert arguments == ["-e", "expected", "input0.bin", "input1.bin"]
    subprocess.run(["./network", *arguments], check=True, cwd=folder, capture_output=True)
    expected = np.fromfile(folder / "expected1.bin", np.float32)
    np.testing.assert_array_equal(expected, 2 * np.fromfile(folder / "input0.bin", np.float32))


def test_whole_numbers_are_an_input_too(net: Path, command) -> None:
    out = net.parent / "out"
    command(f"model={net}:tokens", "input=[int64,1,5]", "seconds=0.02", f"out={out}", "onnx=false", "standalone=true")
    given = np.fromfile(out / "standalone" / "input0.bin", np.float32)
    assert set(given.tolist()) == {0.0, 1.0}
    compiled = load_compiled(out)
    assert compiled.program.signature.types == ("int64",)
    expected = np.fromfile(out / "standalone" / "expected0.bin", np.float32)
    np.testing.assert_allclose(compiled(given.astype(np.int64)[None]).ravel(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(local_architecture() == "aarch64", reason="this processor is the one compiled for")
def test_for_another_processor_nothing_is_claimed(net: Path, command, capsys) -> None:
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("aarch64-linux-gnu-gcc not found: `make cross` installs it")
    out = net.parent / "out"
    command(f"model={net}:build", "input=[1,3,12,10]", f"out={out}", "device=aarch64_neon", "onnx=false")
    shown = capsys.readouterr().out
    assert "neither checked against torch nor timed" in shown
    assert "standalone=true" in shown
    (row,) = [line for line in shown.splitlines() if "block_punched(16x1)" in line]
    assert row.split()[-1] == "–"
    assert load_compiled(out).program.target.name == "aarch64_neon"
    assert not (out / "model.onnx").exists()


def test_a_checkpoint_is_loaded_before_compiling(net: Path, command) -> None:
    out, checkpoint = net.parent / "out", net.parent / "weights.safetensors"
    model = load_model(f"{net}:build")
    for weight in model.parameters():
        nn.init.normal_(weight)
    save_file(model.state_dict(), checkpoint)
    command(
        *(f"model={net}:build", f"checkpoint={checkpoint}", "input=[1,3,12,10]", f"out={out}"),
        *("seconds=0.02", "onnx=false"),
    )
    x = torch.randn(1, 3, 12, 10)
    expected = model.eval()(x).detach()
    assert float((load_compiled(out)(x) - expected).abs().max() / expected.abs().max()) <= 1e-5


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        (None, ModelNotFound, "does not name a file and a function"),
        ("net.py", ModelNotFound, "does not name a file and a function"),
        ("{folder}/nowhere.py:build", ModelNotFound, r"there is no file .*nowhere\.py"),
        ("{folder}/notes.txt:build", ModelNotFound, "is not a Python file"),
        ("{folder}/net.py:biuld", ModelNotFound, r"no function 'biuld'; near: build\."),
        ("{folder}/net.py:rate", ModelNotFound, "no function 'rate'"),
        ("{folder}/net.py:number", NotAModule, "returned int, not an nn.Module"),
        ("{folder}/net.py:broken", ZeroDivisionError, "the user's own"),
    ],
)
def test_what_is_no_network_is_named(net: Path, reference: str | None, error: type[Exception], said: str) -> None:
    (net.parent / "notes.txt").write_text("not Python")
    before = list(sys.path)
    with pytest.raises(error, match=said):
        load_model(reference and reference.format(folder=net.parent))
    assert sys.path == before


def test_a_file_may_have_dataclasses_with_annotations_in_text(tmp_path: Path) -> None:
    """Which ask for the module by its name; afterwards no name is left that other processes would ask for in vain."""
    (tmp_path / "net.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "from torch import nn\n\n@dataclass\nclass Width:\n    channels: int = 3\n    least: ClassVar[int] = 1\n\n"
        "def build():\n    @dataclass\n    class Depth:\n        layers: int = 2\n\n"
        "    return nn.Linear(Width().channels, Depth().layers)\n"
    )
    before = set(sys.modules)
    assert load_model(f"{tmp_path}/net.py:build").weight.shape == (2, 3)
    assert {name for name in set(sys.modules) - before if "net" in name} == set()


def test_a_checkpoint_of_another_network_lists_nearest_names(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    state = {"0.weight": torch.ones(5, 3, 3, 3), "0.biases": torch.ones(4)}
    state |= {"1.weight": torch.ones(2, 4), "1.bias": torch.ones(2)}
    save_file(state, tmp_path / "other.safetensors")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointMismatch) as raised:
        load_weights(model, tmp_path / "other.safetensors")
    text = str(raised.value)
    assert "only the network has 0.bias (nearest in the other: 0.biases)" in text
    assert "only the file has 0.biases (nearest in the other: 0.bias)" in text
    assert "0.weight is (5, 3, 3, 3) in the file and (4, 3, 3, 3) in the network" in text
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_only_the_first_of_many_problems_are_listed(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(5)])
    with pytest.raises(CheckpointMismatch, match=rf"and {10 + 1 - user_model.SHOWN} more"):
        load_weights(model, tmp_path / "other.safetensors")


def test_files_that_are_no_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="nowhere"):
        load_weights(nn.Linear(2, 2), tmp_path / "nowhere.safetensors")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CheckpointCorrupt, match=r"weights\.pt.*safetensors\.torch\.save_file"):
        load_weights(nn.Linear(2, 2), tmp_path / "weights.pt")


def test_weights_from_before_batch_norms_counted_batches_are_loaded(tmp_path: Path) -> None:
    source, model = (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)) for _ in range(2))
    old = {name: value for name, value in source.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file(old, tmp_path / "old.safetensors")
    load_weights(model, tmp_path / "old.safetensors")
    for name, value in old.items():
        assert torch.equal(model.state_dict()[name], value)


@pytest.mark.parametrize("shape", ["7", "[]", "[1,3,0,4]", "[1.5,3]", "[[1,3],8]", "[[]]", "[int64]", "[int8,3]"])
def test_shapes_that_are_none_are_named(net: Path, shape: str) -> None:
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("compile", overrides=[f"model={net}:build", f"input={shape}"])
    with pytest.raises(InvalidSetting, match=r"input=.*npas compile input="):
        compile.run(config)


@pytest.mark.parametrize(("built", "said"), [("build", r"\[1, 7, 12, 10\].*7 channels"), ("named", "returns a dict")])
def test_a_network_that_cannot_be_run_on_the_input_is_named(net: Path, command, capsys, built: str, said: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        command(f"model={net}:{built}", "input=[1,7,12,10]", f"out={net.parent / 'out'}")
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert NotRunnable.__name__ in shown
    assert re.search(said, shown)
    assert not (net.parent / "out").exists()


def test_a_network_that_computes_something_else_is_not_written(
    net: Path, command, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = compile_model(load_model(f"{net}:build").eval().requires_grad_(False), torch.randn(1, 3, 12, 10))
    wrong.program.constants.view(np.float32)[:] *= 1.01
    monkeypatch.setattr(compile, "compile_graph", lambda *arguments, **options: wrong)
    with pytest.raises(SystemExit, match="2"):
        command(f"model={net}:build", "input=[1,3,12,10]", f"out={net.parent / 'out'}")
    shown = capsys.readouterr().err
    assert ResultDiffers.__name__ in shown
    assert not (net.parent / "out").exists()


def test_help_shows_every_setting(command, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        command("--help")
    text = capsys.readouterr().out
    assert "device: aarch64_neon, aarch64_qemu, android_adb, local, ssh, x86_avx2, x86_avx512" in text
    assert "tournament:" not in text
    for key in ("model", "checkpoint", "input", "threads", "tune", "out", "onnx", "standalone", "dump"):
        assert f"\n{key}:" in text


def test_the_command_is_listed_beside_the_stages(capsys) -> None:
    cli.main(["--help"])
    assert "\n  compile " in capsys.readouterr().out
