"""Compilation targets: a C compiler's flags and the shape of the vector unit."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from compiler.errors import UnknownTarget


def local_architecture() -> str:
    """Family of this processor, under Linux's name for it on every system."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


@dataclass(frozen=True)
class Target:
    """What the generator must know of a processor.

    Attributes:
        name: name in configs and reports.
        vector: floats in a vector register (VL).
        registers: architectural vector registers.
        accumulators: how many of them a kernel may use for sums.
        flags: compiler flags that select the instruction set.
        compiler: command of the C compiler, with its options; empty to look for one, see `find_compiler`.
        keep: inline assembly constraint of a vector register.
        architecture: processor family by Linux's name, e.g. `aarch64`; by default this machine's.
    """

    name: str
    vector: int
    registers: int
    accumulators: int
    flags: tuple[str, ...]
    compiler: str = ""
    keep: str = "v"
    architecture: str = field(default_factory=local_architecture)

    @property
    def is_foreign(self) -> bool:
        """Whether its code is for processors of another family than this one."""
        return self.architecture != local_architecture()

    @property
    def runs_here(self) -> bool:
        """Whether this processor has the instructions."""
        return not self.is_foreign and self.vector <= local_target().vector


AVX512 = Target(
    "x86_avx512",
    16,
    32,
    28,
    ("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mavx2", "-mfma"),
    architecture="x86_64",
)
AVX2 = Target("x86_avx2", 8, 16, 12, ("-mavx2", "-mfma"), keep="x", architecture="x86_64")
SSE = Target("x86_sse", 4, 16, 12, (), keep="x", architecture="x86_64")
NEON = Target("aarch64_neon", 4, 32, 24, (), keep="w", architecture="aarch64")

TARGETS = {target.name: target for target in (AVX512, AVX2, SSE, NEON)}


@cache
def local_target() -> Target:
    """The widest target that this processor can run."""
    if local_architecture() == "aarch64":
        return NEON
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else []
    if {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= set(flags):
        return AVX512
    if {"avx2", "fma"} <= set(flags):
        return AVX2
    return SSE


def find_target(name: str | Target) -> Target:
    """The target called `name`; `local` is this machine (`NPAS_TARGET` overrides what was detected).

    Raises:
        UnknownTarget: if there is none of that name.
    """
    if isinstance(name, Target):
        return name
    if name == "local":
        name = os.environ.get("NPAS_TARGET", "")
        if not name:
            return local_target()
    if name not in TARGETS:
        raise UnknownTarget(f"there is no target {name!r}; known: local, {', '.join(TARGETS)}")
    return TARGETS[name]
