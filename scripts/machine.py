"""On what a run was made: versions, processor, compiler."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("torch", "onnxruntime", "optuna", "lightgbm", "botorch", "numpy", "scikit-learn")


def npas_version() -> str:
    """The installed version, or a note that this is a source tree."""
    try:
        return version("npas")
    except PackageNotFoundError:
        return "source tree"


def describe_machine() -> dict[str, str]:
    """Names and versions of what a timing depends on, in the order in which a reader asks for them."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "C compiler": _compiler(),
        "npas": npas_version(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _compiler() -> str:
    try:
        answer = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none found"
    return answer.stdout.splitlines()[0]
