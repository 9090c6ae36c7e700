"""A device whose kernels obey a known law, so that what comes out can be checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from compiler import CompiledModel, Timing, schedule
from compiler.spec import KernelSpec
from compiler.target import AVX512, Target
from latency_model.device import Device
from latency_model.environment import Environment
from latency_model.profile import CONTROL, CONTROLS
from latency_model.runner import Measured, Runner
from latency_model.sampling import choose_kernels
from pruning import Sparsity


def law_us(spec: KernelSpec) -> float:
    """Roofline x staircase: blocks of 16 filters and rows of 7 pixels are paid in full, fine blocks cost more."""
    chosen = schedule(spec, AVX512)
    width = spec.out_size[1]
    stairs = math.ceil(spec.out_channels / 16) * 16 / spec.out_channels
    stairs *= math.ceil(width / 7) * 7 / width
    penalty = 1.3 if "8x4" in str(spec.sparsity) else 1.0
    penalty *= 1.1 if "hard_swish" in spec.epilogue else 1.0
    return max(chosen.cycles / 3e3, chosen.bytes / 1e4) * stairs * penalty + 0.4


@dataclass
class LawfulRunner(Runner):
    """Times follow `law_us`, times a slowdown of the whole network, times noise.

    The control kernel is slow at first, by what its neighbours left in the caches.
    """

    noise: float = 0.02
    slowdown: Callable[[int], float] = lambda _: 1.0
    networks: list[tuple[KernelSpec, ...]] = field(default_factory=list)

    def environment(self, device: str, target: Target) -> Environment:
        return Environment(device, target.name, "paper", "cc 1.0", "-O3", "0+test")

    def clock_mhz(self) -> float:
        return 1000.0

    def time(self, compiled: CompiledModel, *, seconds: float) -> Timing:
        raise NotImplementedError("the law is about kernels")

    def measure(self, specs: Sequence[KernelSpec], target: Target, *, seconds: float, seed: int) -> Measured:
        generator = np.random.default_rng([seed, len(self.networks)])
        self.networks.append(tuple(specs))
        us = np.array([law_us(spec) for spec in specs])
        neighbours = np.exp(self.noise * generator.standard_normal(len(specs)))
        first = specs.index(CONTROL)
        neighbours[first : first + CONTROLS] = [*np.linspace(1.3 + generator.random(), 1.1, CONTROLS - 1), 1]
        jitter = np.exp(0.01 * np.abs(generator.standard_normal((12, len(specs)))))
        times = us * neighbours * jitter * self.slowdown(len(self.networks) - 1)
        whole = float(np.median(times.sum(axis=1)))
        return Measured(times, whole, whole)


@pytest.fixture(scope="session")
def law() -> Callable[[KernelSpec], float]:
    """True microseconds of a kernel."""
    return law_us


@pytest.fixture
def runner() -> LawfulRunner:
    return LawfulRunner()


@pytest.fixture
def device(runner: LawfulRunner) -> Device:
    return Device("paper", AVX512, runner)


@pytest.fixture(scope="session")
def pool() -> tuple[KernelSpec, ...]:
    """Kernels such as a search space holds: widths in eights, several schemes and rates."""
    generator = np.random.default_rng(7)
    schemes = ("block_punched(16x1)", "block_punched(32x1)", "block_punched(8x4)")
    specs = []
    for _ in range(600):
        size = int(generator.choice([4, 8, 14, 16]))
        channels, filters = (int(8 * generator.integers(1, 17)) for _ in range(2))
        epilogue = (str(generator.choice(["relu", "hard_swish"])),)
        kind = int(generator.integers(5))
        if kind == 0:
            specs.append(
                KernelSpec(
                    "depthwise", channels, channels, size, size, (3, 3), (1, 1), (1, 1), (1, 1), channels, epilogue
                )
            )
            continue
        kernel, padding = (((1, 1), (0, 0)), ((3, 3), (1, 1)))[kind % 2]
        dense = KernelSpec("conv", channels, filters, size, size, kernel, (1, 1), padding, epilogue=epilogue)
        rate = float(generator.choice([1, 2, 2.5, 3, 5]))
        scheme = str(generator.choice(schemes)) if rate > 1 else "dense"
        specs.append(dense.with_sparsity(Sparsity(scheme, rate)))
    return tuple(dict.fromkeys(specs))


@pytest.fixture(scope="session")
def table(pool: tuple[KernelSpec, ...]) -> pd.DataFrame:
    """What a profile of `pool` gives: the law, off by 2 % of noise."""
    chosen = choose_kernels(pool, AVX512, train=260, held_out=100).specs
    generator = np.random.default_rng(3)
    return pd.DataFrame([spec.to_dict() for spec in chosen]).assign(
        environment="e",
        median_us=[law_us(spec) * math.exp(0.02 * generator.standard_normal()) for spec in chosen],
        noise=0.02,
        drift=0.0,
        spread=0.01,
        networks=2,
        runs=20,
    )
