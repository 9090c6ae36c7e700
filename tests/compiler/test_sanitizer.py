"""The sanitizers see what generated code does wrong, beside the arena too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compiler import find_compiler, local_target

ROOT = Path(__file__).parents[2]


def preload() -> str:
    """The libraries that must be there before Python starts."""
    compiler = find_compiler(local_target())
    names = ("libasan.so", "libstdc++.so")
    paths = [
        subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout
        for name in names
    ]
    found = [path.strip() for path in paths]
    if not all(Path(path).is_absolute() for path in found):
        pytest.skip(f"the C compiler {compiler[0]} has no {' or no '.join(names)}")
    return " ".join(found)


PROGRAM = """
import sys
import numpy as np
from compiler import local_target
from compiler.runtime import Program, Signature, aligned
from compiler.toolchain import build_library

body = sys.argv[1]
source = "#include <stdint.h>\\n__attribute__((visibility(\\"default\\"))) void npas_run(const float *const *in, " \\
    "float *const *out, char *arena, const char *constants, uint64_t *stamps) { int n = in[0][0]; " + body + " }"
program = Program(build_library([], source, local_target()), aligned(64), Signature(((1,),), ((1,),), 128, 0),
    local_target())
out = np.zeros(1, np.float32)
program.run([np.full(1, 128, np.float32)], [out])
print("ran", out[0])
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("out[0][0] = arena[n - 1] + constants[63];", "ran 0.0"),
        ("out[0][0] = arena[n];", "heap-buffer-overflow"),
        ("arena[n - 129] = 1;", "heap-buffer-overflow"),
        ("out[0][0] = constants[n - 64];", "heap-buffer-overflow"),
        ("out[0][n - 127] = 1;", "heap-buffer-overflow"),
        ("out[0][0] = *(const int32_t *)(arena + n / 64);", "misaligned address"),
        ("out[0][0] = 2147483647 - 127 + n;", "signed integer overflow"),
    ],
)
def test_what_is_wrong_ends_the_process(body: str, said: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "NPAS_SANITIZE": "1",
        "NPAS_CACHE": str(tmp_path),
        "ASAN_OPTIONS": "detect_leaks=0",
        "LD_PRELOAD": preload(),
    }
    command = [sys.executable, "-c", PROGRAM, body]
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert said in answer.stdout + answer.stderr
    assert (answer.returncode == 0) == said.startswith("ran")
