"""Shared by the tests of the compiler: the program of a compiled network, made and run."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from compiler import CompiledModel

RunProgram = Callable[[CompiledModel, Sequence[Tensor]], list[np.ndarray]]


@pytest.fixture
def run_program(tmp_path: Path) -> RunProgram:
    """A function that makes a network's program with its own Makefile and runs it, under an emulator if it must."""

    def run(compiled: CompiledModel, inputs: Sequence[Tensor]) -> list[np.ndarray]:
        folder = tmp_path / "program"
        compiled.build_standalone(folder)
        # make's default compiler is the one under test, and no sanitizer that Python runs with is
        without = ("CC", "MAKEFLAGS", "LD_PRELOAD")
        environment = {name: value for name, value in os.environ.items() if name not in without}
        subprocess.run(["make", "--silent", "-C", folder], check=True, env=environment)
        names = [f"in{index}.bin" for index in range(len(inputs))]
        for name, value in zip(names, inputs, strict=True):
            value.float().numpy().tofile(folder / name)
        target = compiled.program.target
        emulator = [] if target.runs_here else [f"qemu-{target.architecture}"]
        subprocess.run([*emulator, "./network", "-n", "1", *names], check=True, cwd=folder, env=environment)
        count = len(inputs[0])
        return [
            np.fromfile(folder / f"output{index}.bin", np.float32).reshape(count, *shape)
            for index, shape in enumerate(compiled.program.signature.outputs)
        ]

    return run


@pytest.fixture(scope="session")
def cross_tools() -> None:
    """Skip where code for aarch64 cannot be both compiled and run."""
    missing = [tool for tool in ("aarch64-linux-gnu-gcc", "qemu-aarch64") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found: `make cross` installs what code for aarch64 is tested with")
