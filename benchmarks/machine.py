"""What a timing depends on: processor, its arithmetic peak, and the versions of everything that was compared."""

from __future__ import annotations

import ctypes
import datetime
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from compiler import Target, compiler_version, find_compiler, local_target
from compiler.toolchain import build_library

PACKAGES = ("numpy", "torch", "onnxruntime", "openvino", "ncnn", "pnnx", "ai-edge-litert")
CHAINS = 12
STEPS = 200_000

_PEAK = """
typedef float v __attribute__((vector_size(4 * {lanes})));
__attribute__((visibility("default"))) float peak(long steps, float factor) {{
    v f, c;
    for (int i = 0; i < {lanes}; i++) {{ f[i] = factor; c[i] = 1.0f - factor; }}
    {declare}
    for (long s = 0; s < steps; s++) {{ {fma} }}
    v sum = {sum};
    return sum[0] + sum[{lanes} - 1];
}}
"""


def measure_peak(target: Target | None = None, seconds: float = 0.5) -> float:
    """Billions of fp32 operations a second that independent fused multiply-adds reach on one core: the best of many."""
    target = target or local_target()
    names = [f"a{index}" for index in range(CHAINS)]
    source = _PEAK.format(
        lanes=target.vector,
        declare=" ".join(f"v {name} = c + {index}.0f;" for index, name in enumerate(names)),
        fma=" ".join(f"{name} = {name} * f + c;" for name in names),
        sum=" + ".join(names),
    )
    run = ctypes.CDLL(str(build_library([], source, target))).peak
    run.restype, run.argtypes = ctypes.c_float, [ctypes.c_long, ctypes.c_float]
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.thread_time_ns()
        run(STEPS, 0.5)
        best = max(best, 2 * target.vector * CHAINS * STEPS / (time.thread_time_ns() - begin))
    return best


def machine_facts() -> dict[str, str]:
    """Everything that a reader must know to repeat a table, in the order in which it is asked for."""
    target = local_target()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "target": target.name,
        "peak_gflops": f"{measure_peak(target):.0f}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "system": platform.platform(),
        "compiler": compiler_version(find_compiler(target)),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Name, family, model and stepping: virtual machines often hide the name."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in info.read_text().splitlines())
    fields = {key.strip(): value.strip() for key, _, value in lines}
    numbers = [f"{key} {fields[key]}" for key in ("cpu family", "model", "stepping") if key in fields]
    return ", ".join([fields.get("model name", platform.machine()), *numbers])
