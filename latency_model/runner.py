"""The one interface between timing and the place where kernels run."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler import CompiledModel, KernelSpec, Target, Timing, compile_specs
from latency_model.environment import Environment
from latency_model.errors import InvalidDevice, MeasurementFailed

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """Times of kernels inside one network.

    Attributes:
        kernel_us: [runs, kernels].
        wall_us, cpu_us: median wall time of the whole network, and CPU time of its thread.
    """

    kernel_us: Floats
    wall_us: float
    cpu_us: float


class Runner(ABC):
    """Runs a compiled network somewhere and brings back times.

    A new kind of runner is one new file in `latency_model/runners/` with a subclass under `@runner(name)`; the keys
    beside `kind` in a device's configuration are its constructor's arguments.

    `emulated` says that what runs there computes what the device would, in another time.
    """

    emulated: bool = False

    @abstractmethod
    def environment(self, device: str, target: Target) -> Environment:
        """What the times depend on."""

    @abstractmethod
    def clock_mhz(self) -> float:
        """Present clock, NaN if unknown."""

    @abstractmethod
    def time(self, compiled: CompiledModel, *, seconds: float) -> Timing:
        """Time a network on random inputs, on one thread, for `seconds` and at least 30 times, after warming up.

        Raises:
            MeasurementFailed: if the device gives no times.
        """

    def measure(self, specs: Sequence[KernelSpec], target: Target, *, seconds: float, seed: int) -> Measured:
        """Time kernels inside one network that holds exactly these.

        Args:
            specs: the kernels, in the order in which they run.
            target: what they are compiled for.
            seconds: time to spend on running.
            seed: of the random weights and masks.

        Raises:
            MeasurementFailed: if the device gives no times, or a kernel was not built.
        """
        compiled = compile_specs(specs, device=target, seed=seed)
        owner = compiled.kernels["spec_index"].to_numpy()
        missing = sorted(set(range(len(specs))) - set(owner.tolist()))
        if missing:
            raise MeasurementFailed(f"no kernel was built for {[specs[index].op for index in missing]}")
        timing = self.time(compiled, seconds=seconds)
        us = np.stack([timing.kernel_us[:, owner == index].sum(axis=1) for index in range(len(specs))], axis=1)
        return Measured(us, 1e3 * timing.median_ms, 1e3 * float(np.median(timing.cpu_ms)))


_RUNNERS: dict[str, type[Runner]] = {}


def runner(name: str) -> Callable[[type[Runner]], type[Runner]]:
    """Class decorator: files a runner under `name`."""

    def add(entry: type[Runner]) -> type[Runner]:
        _RUNNERS[name] = entry
        return entry

    return add


def make_runner(config: str | Mapping[str, Any]) -> Runner:
    """The runner for `"local"` or `{"kind": "local", ...options}`.

    Raises:
        InvalidDevice: if there is no such runner or it does not take these options.
    """
    options = {"kind": config} if isinstance(config, str) else dict(config)
    package = importlib.import_module("latency_model.runners")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    kind = options.pop("kind", None)
    if kind not in _RUNNERS:
        raise InvalidDevice(f"there is no runner of kind {kind!r}; known: {', '.join(sorted(_RUNNERS))}")
    try:
        return _RUNNERS[kind](**options)
    except TypeError as error:
        raise InvalidDevice(f"the runner {kind!r} does not take these options: {error}") from error
