"""Tuning: a few schedules of each kernel are timed inside the network, and the fastest is remembered."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import compiler.kernels as kernels
from compiler.compiled import CompiledModel
from compiler.errors import CacheUnwritable
from compiler.kernels import Schedule
from compiler.plan import Choose
from compiler.select import contenders, schedule
from compiler.spec import CONVOLUTIONS, KernelSpec
from compiler.target import Target
from compiler.toolchain import build_flags, cache_directory, compiler_version, find_compiler

CONTENDERS = 6
"""Schedules of a kernel that are timed, the analytic choice among them."""
PASSES = 2
"""Times that each of them is timed, in rotated order."""
SECONDS = 0.15
"""Time spent on each network of one schedule a kernel."""
MARGIN = 0.98
"""A schedule replaces the analytic choice only if it takes less than this share of its time."""


class Records:
    """The fastest known schedules of one target, a file each in the cache, keyed by all that could change them.

    Several processes may write at once: every file is written whole. A file that cannot be read, or does not match
    its checksum, is as good as none, and is written anew.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.directory = cache_directory().parent / "schedules"
        self._version = compiler_version(find_compiler(target))

    def load(self, spec: KernelSpec) -> Schedule | None:
        """The schedule found for `spec`, None if it was never tuned."""
        try:
            entry = json.loads(self._path(spec).read_text())
            fields = entry["schedule"]
            return Schedule(**fields) if entry["sha256"] == _checksum(fields) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store(self, spec: KernelSpec, chosen: Schedule) -> None:
        """Keep `chosen` for `spec`.

        Raises:
            CacheUnwritable: if the file cannot be written.
        """
        fields = asdict(chosen)
        entry = {"spec": spec.to_dict(), "schedule": fields, "sha256": _checksum(fields)}
        path = self._path(spec)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "w") as file:
                json.dump(entry, file)
            os.replace(temporary, path)
        except OSError as error:
            raise CacheUnwritable(f"cannot keep tuned schedules in {path.parent}: {error.strerror}") from error

    def choose(self, spec: KernelSpec, target: Target) -> Schedule:
        """The tuned schedule, or the analytic choice for what was never tuned."""
        return self.load(spec) or schedule(spec, target)

    def _path(self, spec: KernelSpec) -> Path:
        flags = build_flags(self.target)
        key = json.dumps([spec.to_dict(), asdict(self.target), flags, self._version, generator_version()])
        return self.directory / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def tune_kernels(build: Callable[[Choose], CompiledModel], records: Records) -> None:
    """Time the contenders of every kernel of a network that has no record yet, all kernels in the same runs.

    Network k holds the k-th contender of each kernel, so that kernels are timed in place. Stores the fastest.

    Args:
        build: compiles the network with the schedules that its argument chooses.
    """
    plain = build(records.choose)
    unknown = [spec for spec in dict.fromkeys(plain.specs) if spec.op in CONVOLUTIONS and records.load(spec) is None]
    options = {spec: contenders(spec, records.target, CONTENDERS) for spec in unknown}
    rounds = max(map(len, options.values()), default=0)
    times: defaultdict[tuple[KernelSpec, int], list[float]] = defaultdict(list)
    for turn in [*range(rounds), *reversed(range(rounds))][: rounds * PASSES]:

        def choose(spec: KernelSpec, target: Target, turn: int = turn) -> Schedule:
            offered = options.get(spec)
            return records.choose(spec, target) if offered is None else offered[turn % len(offered)]

        network = build(choose)
        medians = np.median(network.time(SECONDS, min_runs=5).kernel_us, axis=0)
        for spec, median in zip(network.specs, medians, strict=True):
            if spec in options:
                times[spec, turn % len(options[spec])].append(float(median))
    for spec, offered in options.items():
        spent = [float(np.mean(times[spec, index])) for index in range(len(offered))]
        fastest = int(np.argmin(spent))
        records.store(spec, offered[fastest if spent[fastest] < MARGIN * spent[0] else 0])


@cache
def generator_version() -> str:
    """Checksum of the code generators, of kernels and of what runs them: others may have another fastest schedule."""
    folder = Path(kernels.__file__).parent
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*.py")), folder.parent / "emit.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
