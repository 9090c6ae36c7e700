"""Kernels run on this machine, in this process."""

from __future__ import annotations

from compiler import CompiledModel, Target, Timing, compiler_version, find_compiler
from compiler.toolchain import build_flags
from latency_model.environment import Environment, local_clock_mhz, local_cpu, npas_version
from latency_model.runner import Runner, runner

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

    def time(self, compiled: CompiledModel, *, seconds: float) -> Timing:
        return compiled.time(seconds=seconds, min_runs=MIN_RUNS)
