"""The C project of a network: what its program computes, prints and refuses."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compiler import CompiledModel, compile_model, find_compiler, load_compiled, local_target
from compiler.errors import DirectoryUnwritable

RunProgram = Callable[[CompiledModel, Sequence[Tensor]], list[np.ndarray]]
FILES = ["Makefile", "kernels.c", "main.c", "network.h", "weights.bin"]


class TwoOfEach(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 10, 3, padding=1)
        self.right = nn.Conv2d(7, 10, 1)

    def forward(self, image: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        gate = torch.nn.functional.hardsigmoid(self.right(features))
        y = self.left(image).relu() * gate
        return y, y.mean((2, 3))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 5)
    ).eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of `network()` with its program, an input of two images and what torch computes from it."""
    folder = tmp_path_factory.mktemp("made")
    model, x = network(), torch.randn(2, 3, 8, 8)
    compile_model(model, x[:1]).build_standalone(folder)
    subprocess.run(["make", "--silent", "-C", folder], check=True)
    x.numpy().tofile(folder / "in.bin")
    model(x).detach().numpy().tofile(folder / "expected0.bin")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["./network", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_several_inputs_outputs_and_images_equal_torch(run_program: RunProgram) -> None:
    torch.manual_seed(0)
    model, inputs = TwoOfEach().eval(), (torch.randn(3, 3, 9, 8), torch.randn(3, 7, 1, 1))
    compiled = compile_model(model, tuple(value[:1] for value in inputs))
    with torch.no_grad():
        expected = model(*inputs)
    for found, wanted in zip(run_program(compiled, inputs), expected, strict=True):
        assert found.shape == wanted.shape
        assert float((torch.from_numpy(found) - wanted).abs().max() / wanted.abs().max()) <= 1e-5


def test_the_same_bits_as_in_process_also_after_saving(tmp_path: Path, run_program: RunProgram) -> None:
    model, x = network(), torch.randn(2, 3, 8, 8)
    compiled = compile_model(model, x[:1])
    compiled.save(tmp_path / "saved")
    (found,) = run_program(load_compiled(tmp_path / "saved"), [x])
    assert (found == compiled(x.numpy())).all()


def wide_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 20, 3), nn.AdaptiveAvgPool2d(1))


@pytest.mark.parametrize("device", ["local", "aarch64_neon"])
def test_a_program_has_the_threads_that_were_asked_for(tmp_path: Path, device: str) -> None:
    """Its results are those of one thread, and its C is clean too."""
    if device == "aarch64_neon" and shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is missing: make cross")
    model, x = wide_network(), torch.randn(1, 3, 20, 20)
    outputs = []
    for threads in (1, 2):
        folder = tmp_path / str(threads)
        compiled = compile_model(model, x, device=device, threads=threads)
        assert compiled.kernels["threads"].max() == threads
        compiled.build_standalone(folder)
        strict = "CFLAGS += -Wall -Wextra -Werror=unused-function -Werror=implicit-function-declaration\n"
        (folder / "Makefile").write_text(strict + (folder / "Makefile").read_text())
        subprocess.run(["make", "--silent", "-C", folder], check=True)
        x.numpy().tofile(folder / "in.bin")
        command = ["./network"] if device == "local" else ["qemu-aarch64", "./network"]
        told = subprocess.run([*command, "-n", "3", "in.bin"], cwd=folder, capture_output=True, text=True, check=True)
        assert told.stdout.rstrip().endswith(f"on {threads} thread{'s' if threads > 1 else ''}")
        outputs.append((folder / "output0.bin").read_bytes())
    assert outputs[0] == outputs[1]


def test_the_project_is_complete_and_its_c_is_clean(made: Path) -> None:
    assert {*FILES, "network"} <= {path.name for path in made.iterdir()}
    strict = ["-Wall", "-Wextra", "-Werror", "-std=gnu11", "-fsyntax-only", "main.c"]
    subprocess.run([*find_compiler(local_target()), *strict], check=True, cwd=made)


def test_the_table_has_a_row_for_each_layer(made: Path) -> None:
    answer = run(made, "-n", "5", "in.bin")
    assert answer.returncode == 0
    head, *rows = answer.stdout.splitlines()
    assert head.split() == ["layer", "kernel", "median", "us", "share"]
    kernels = compile_model(network(), torch.randn(1, 3, 8, 8)).listing.kernels
    assert [row.split()[:2] for row in rows[: len(kernels)]] == [[row["layer"], row["code"]] for row in kernels]
    assert all(float(row.split()[2]) >= 0 for row in rows[: len(kernels)])
    assert rows[len(kernels)].startswith("sum of the layers")
    assert rows[-1] == "medians of 5 runs of one image on 1 thread"
    assert run(made, "-n", "0", "in.bin").stdout == ""


def test_help_says_what_the_files_must_hold(made: Path) -> None:
    answer = run(made, "-h")
    assert answer.returncode == 0
    assert "input 0: 3 x 8 x 8, 768 bytes an image" in answer.stdout
    assert "output 0: 5, 20 bytes an image" in answer.stdout
    assert local_target().name in answer.stdout


def test_outputs_are_compared_with_what_is_expected(made: Path, tmp_path: Path) -> None:
    good = run(made, "-n", "0", "-o", str(tmp_path / "y"), "-e", "expected", "in.bin")
    assert good.returncode == 0, good.stderr
    assert np.fromfile(tmp_path / "y0.bin", np.float32).shape == (10,)
    expected = np.fromfile(made / "expected0.bin", np.float32)
    for name, wrong in (("off", expected + 1e-3 * abs(expected).max()), ("nan", np.where(expected, np.nan, 0))):
        wrong.astype(np.float32).tofile(tmp_path / f"{name}0.bin")
        bad = run(made, "-n", "0", "-o", str(tmp_path / "y"), "-e", str(tmp_path / name), "in.bin")
        assert bad.returncode == 1, bad.stdout
        assert f"differs from {tmp_path}/{name}0.bin by" in bad.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "InputMissing: 0 input files were given, this network takes 1"),
        (["in.bin", "in.bin"], "InputMissing: 2 input files were given"),
        (["nowhere.bin"], "InputMissing: cannot open nowhere.bin: No such file"),
        (["short.bin"], "InputShort: short.bin holds 767 bytes; input 0 is float32 of shape 3 x 8 x 8, 768"),
        (["empty.bin"], "InputShort: empty.bin holds 0 bytes"),
        (["-n", "many", "in.bin"], "InvalidRuns: -n takes a whole number from 0 to 1000000, not many"),
        (["-w", "empty.bin", "in.bin"], "WeightsWrong: empty.bin holds 0 bytes where this network has"),
        (["-w", "altered.bin", "in.bin"], "WeightsWrong: altered.bin was altered"),
        (["-w", "nowhere.bin", "in.bin"], "WeightsMissing: cannot open nowhere.bin"),
        (["-o", "no/folder/y", "in.bin"], "OutputUnwritable: cannot write no/folder/y0.bin"),
        (["-e", "short", "in.bin"], "ExpectedMissing: cannot open short0.bin"),
        (["-x"], "usage: network"),
    ],
)
def test_what_is_wrong_is_named(made: Path, arguments: list[str], said: str) -> None:
    (made / "short.bin").write_bytes((made / "in.bin").read_bytes()[:767])
    (made / "empty.bin").write_bytes(b"")
    weights = bytearray((made / "weights.bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    (made / "altered.bin").write_bytes(weights)
    answer = run(made, *arguments)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert answer.stdout == ""


def test_another_compiler_can_be_named(made: Path, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes((made / name).read_bytes())
    cc = tmp_path / "my-cc"
    cc.write_text('#!/bin/sh\necho "$@" > called\necho done > network\n')
    cc.chmod(0o755)
    subprocess.run(["make", "--silent", "-C", tmp_path, f"CC={cc}"], check=True)
    called = (tmp_path / "called").read_text()
    assert all(flag in called for flag in (*local_target().flags, "main.c", "kernels.c", "-o network"))


def test_another_projects_makefile_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("all: ; echo mine\n")
    compiled = compile_model(nn.Conv2d(3, 4, 1), torch.randn(1, 3, 5, 5))
    with pytest.raises(DirectoryUnwritable, match="Makefile is not npas's"):
        compiled.build_standalone(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]
    assert (tmp_path / "Makefile").read_text() == "all: ; echo mine\n"


def test_a_second_network_takes_the_place_of_the_first(run_program: RunProgram) -> None:
    x = torch.randn(1, 3, 5, 5)
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Conv2d(3, 4 + seed, 1)
        (found,) = run_program(compile_model(model, x), [x])
        np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)
