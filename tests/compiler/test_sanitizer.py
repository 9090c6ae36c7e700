"""The sanitizers see what generated code does wrong, beside the arena and inside."""

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
signature = Signature(((1,),), ((1,),), ("float32",), arena=128, kernels=0)
program = Program(build_library([], source, local_target()), aligned(64), signature, local_target())
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
    answer = run_checked(PROGRAM, body, tmp_path)
    assert said in answer.stdout + answer.stderr
    assert (answer.returncode == 0) == said.startswith("ran")


NETWORK = """
import sys
from dataclasses import replace
import numpy as np
from compiler.compile import build
from compiler.graph import Graph, Node, Pool
from compiler.plan import make_plan
from compiler.target import local_target

pool = Pool("max", (2, 2), (2, 2))
nodes = tuple(Node(f"y{n}", pool, (f"y{n - 1}",), (16, 16 >> n, 16 >> n)) for n in (1, 2, 3))
plan = make_plan(Graph({"y0": (16, 16, 16)}, nodes, ("y3",), ((16, 2, 2),), {}), local_target())
steps = list(plan.steps)
assert steps[3].spec.op == "max_pool"
blocks, *dims = steps[3].dims
steps[3] = replace(steps[3], dims=(blocks + int(sys.argv[1]), *dims))
build(replace(plan, steps=tuple(steps)))(np.zeros((1, 16, 16, 16), np.float32))
print("ran")
"""


@pytest.mark.parametrize(("more", "said"), [("0", "ran"), ("1", "use-after-poison")])
def test_a_kernel_that_leaves_its_tensors_is_caught_inside_the_arena(more: str, said: str, tmp_path: Path) -> None:
    """The third of three poolings is told to work on so many channel blocks more than there are."""
    answer = run_checked(NETWORK, more, tmp_path)
    assert said in answer.stdout + answer.stderr
    assert (answer.returncode == 0) == (said == "ran")


def run_checked(program: str, argument: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "NPAS_SANITIZE": "1",
        "NPAS_CACHE": str(cache),
        "ASAN_OPTIONS": "detect_leaks=0",
        "LD_PRELOAD": preload(),
    }
    command = [sys.executable, "-c", program, argument]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
