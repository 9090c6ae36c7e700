"""The one interface between timing and the place where kernels run."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler import KernelSpec, Target
from latency_model.environment import Environment
from latency_model.errors import InvalidDevice

Floats = npt.NDArray[np.float64]


class Runner(ABC):
    """Builds a network of given kernels, runs it somewhere and brings back times.

    A new kind of runner is one new file in `latency_model/runners/` with a subclass under `@runner(name)`; the keys
    beside `kind` in a device's configuration are its constructor's arguments.
    """

    @abstractmethod
    def environment(self, device: str, target: Target) -> Environment:
        """What the times depend on."""

    @abstractmethod
    def clock_mhz(self) -> float:
        """Present clock, NaN if unknown."""

    @abstractmethod
    def measure(self, specs: Sequence[KernelSpec], target: Target, *, seconds: float, seed: int) -> Floats:
        """Time kernels inside one network that holds exactly these, after warming up.

        Args:
            specs: the kernels, in the order in which they run.
            target: what they are compiled for.
            seconds: time to spend on running.
            seed: of the random weights and masks.

        Returns:
            microseconds [runs, len(specs)].
        """


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
