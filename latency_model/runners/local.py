"""Kernels run on this machine, in this process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler import KernelSpec, Target, compile_specs, compiler_version, find_compiler
from compiler.toolchain import build_flags
from latency_model.environment import Environment, local_clock_mhz, local_cpu, npas_version
from latency_model.errors import MeasurementFailed
from latency_model.runner import Floats, Runner, runner

MIN_RUNS = 30


@runner("local")
class LocalRunner(Runner):
    """Compiles with the system's compiler and times in process, on one pinned thread."""

    def environment(self, device: str, target: Target) -> Environment:
        return Environment(
            device=device,
            target=target.name,
            cpu=local_cpu(),
            compiler=compiler_version(find_compiler(target)),
            flags=" ".join(build_flags(target)),
            npas=npas_version(),
        )

    def clock_mhz(self) -> float:
        return local_clock_mhz()

    def measure(self, specs: Sequence[KernelSpec], target: Target, *, seconds: float, seed: int) -> Floats:
        compiled = compile_specs(specs, device=target, seed=seed)
        times = compiled.time(seconds=seconds, min_runs=MIN_RUNS).kernel_us
        owner = compiled.kernels["spec_index"].to_numpy()
        missing = sorted(set(range(len(specs))) - set(owner.tolist()))
        if missing:
            raise MeasurementFailed(f"no kernel was built for {[specs[index].op for index in missing]}")
        return np.stack([times[:, owner == index].sum(axis=1) for index in range(len(specs))], axis=1)
