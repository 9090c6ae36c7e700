"""What a measured time depends on besides the kernel."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from compiler.tune import generator_version


@dataclass(frozen=True)
class Environment:
    """Where and with what kernels were built and timed; times of different environments are never mixed.

    Attributes:
        device: name of the device.
        target: name of the compilation target.
        cpu: model of the processor that ran the kernels.
        compiler: first line of the C compiler's version.
        flags: compiler flags.
        npas: version of this package and checksum of its code generators.
    """

    device: str
    target: str
    cpu: str
    compiler: str
    flags: str
    npas: str

    @property
    def fingerprint(self) -> str:
        """Short digest of all fields."""
        text = "\n".join(f"{key}={value}" for key, value in asdict(self).items())
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def npas_version() -> str:
    """Version of npas, and a checksum of the sources that decide what code a kernel becomes."""
    try:
        version = importlib.metadata.version("npas")
    except importlib.metadata.PackageNotFoundError:
        version = "source"
    return f"{version}+{generator_version()[:8]}"


def local_cpu() -> str:
    """Model of this machine's processor."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def local_clock_mhz() -> float:
    """Present clock of this machine's first core; NaN where the system does not tell."""
    text = _cpuinfo("cpu MHz")
    return float(text) if text else float("nan")


def _cpuinfo(key: str) -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return ""
    found = (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith(key))
    return next(found, "")
