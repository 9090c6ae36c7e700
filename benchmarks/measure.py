"""Competitors timed side by side, usually on one pinned core, and what follows from their times."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from compiler import pinned

Floats = npt.NDArray[np.float64]
Run = Callable[[], object]


@dataclass(frozen=True)
class Budget:
    """How long to measure.

    Attributes:
        seconds: for all competitors together, after the warm-up.
        min_rounds: rounds that are kept at least.
        warm_rounds: rounds that are thrown away.
        sample_us: a competitor that is faster is run several times in a row and divided, since the clock itself
            takes about a microsecond.
    """

    seconds: float = 10.0
    min_rounds: int = 25
    warm_rounds: int = 4
    sample_us: float = 300.0


STEADY_US = 5000.0
"""A `sample_us` with which a network finds its weights in the caches, as in a stream of pictures. Where each of twenty
runs once in turn, all of them read their weights from memory."""
QUICK = Budget(seconds=1.0, min_rounds=5, warm_rounds=2)


@dataclass(frozen=True)
class Times:
    """One competitor: microseconds a run, round by round.

    Attributes:
        cpu_us: [rounds], CPU time of all threads of the process.
        wall_us: [rounds].
    """

    cpu_us: Floats
    wall_us: Floats

    def minus(self, other: Times, count: int = 1) -> Times:
        """A `count`-th of what this took longer than `other`, in the same rounds."""
        return Times((self.cpu_us - other.cpu_us) / count, (self.wall_us - other.wall_us) / count)


@contextmanager
def one_core() -> Iterator[None]:
    """This thread, and all that are started meanwhile, on one core, and `quiet`."""
    with quiet(), pinned():
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Torch with one thread; no garbage collection."""
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(1)
    try:
        gc.disable()
        yield
    finally:
        if collecting:
            gc.enable()
        torch.set_num_threads(threads)


def measure(runs: Mapping[str, Run], budget: Budget) -> dict[str, Times]:
    """Run all competitors in rounds, each once a round.

    The order is rotated and every second round goes backwards, so that a drift of the machine meets all of them
    alike and none always finds the caches as the same neighbour left them.
    """
    names = list(runs)
    for _ in range(budget.warm_rounds - 1):
        for name in names:
            runs[name]()
    repeats = {name: _repeats(runs[name], budget.sample_us) for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    wall: dict[str, list[float]] = {name: [] for name in names}
    end, done = time.perf_counter() + budget.seconds, 0
    while done < budget.min_rounds or time.perf_counter() < end:
        for name in order_of(names, done):
            cpu_us, wall_us = _sample(runs[name], repeats[name])
            cpu[name].append(cpu_us)
            wall[name].append(wall_us)
        done += 1
    return {name: Times(np.array(cpu[name]), np.array(wall[name])) for name in names}


def order_of(names: list[str], round_index: int) -> list[str]:
    """All names, backwards in every second round; every two rounds another one starts."""
    turn, backwards = divmod(round_index, 2)
    first = turn % len(names)
    rotated = names[first:] + names[:first]
    return rotated[::-1] if backwards else rotated


def _repeats(run: Run, sample_us: float) -> int:
    cpu_us, _ = _sample(run, 1)
    return max(1, math.ceil(sample_us / max(cpu_us, 0.1)))


def _sample(run: Run, repeats: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for _ in range(repeats):
        run()
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    return cpu / repeats / 1e3, wall / repeats / 1e3


def median(values: Floats) -> float:
    """The middle value."""
    return float(np.median(values))


def spread(values: Floats) -> float:
    """Interquartile range over the median."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float((high - low) / abs(np.median(values)))


def geometric_mean(values: Iterable[float]) -> float:
    """The mean that ratios have; NaN of nothing.

    Raises:
        ValueError: if a value is not positive.
    """
    array = np.array(list(values), np.float64)
    if (array <= 0).any():
        raise ValueError(f"a geometric mean needs positive values, not {array.min():g}")
    return float(np.exp(np.log(array).mean())) if array.size else math.nan


def relative_error(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """Largest difference over the largest expected value; infinite if the sizes differ or something is not finite."""
    if found.size != expected.size or not np.isfinite(found).all():
        return math.inf
    difference = np.abs(found.reshape(expected.shape).astype(np.float64) - expected).max()
    return float(difference / np.abs(expected).max())
