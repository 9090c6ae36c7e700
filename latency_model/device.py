"""A device: a compilation target and a way to run a program there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from compiler import Target, find_target
from latency_model.environment import Environment
from latency_model.errors import InvalidDevice, UnknownDevice
from latency_model.runner import Runner, make_runner

_KEYS = ("name", "target", "compiler", "flags", "runner", "peak_gflops", "bandwidth_gb_s")


@dataclass(frozen=True)
class Device:
    """Where networks will run.

    Attributes:
        name: name in configs, tables and reports.
        target: what the code generator compiles for.
        runner: how a program gets there and back.
        peak_gflops, bandwidth_gb_s: what one core can compute, and read from its caches, by the data sheet, if known:
            from where predictions start when nothing has been measured.
    """

    name: str
    target: Target
    runner: Runner
    peak_gflops: float | None = None
    bandwidth_gb_s: float | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Device:
        """A device from a mapping with the keys of `conf/device/*.yaml`.

        Keys: `name`; optionally `target` (name of a target, default `local`: this machine's widest), `compiler`
        (command), `flags` (list, in place of the target's), `runner` (kind, or a mapping with `kind` and options),
        `peak_gflops` and `bandwidth_gb_s` (see `Device`).

        Raises:
            InvalidDevice: if a key is missing, unknown or of the wrong type.
            UnknownTarget: if there is no such target.
        """
        unknown = sorted(set(config) - set(_KEYS))
        if unknown or not isinstance(config.get("name"), str):
            problem = f"unknown key {unknown[0]!r}" if unknown else "no name"
            raise InvalidDevice(f"the device configuration has {problem}; its keys are {', '.join(_KEYS)}")
        target = find_target(config.get("target", "local"))
        if "compiler" in config:
            target = replace(target, compiler=str(config["compiler"]))
        if "flags" in config:
            if isinstance(config["flags"], str):
                raise InvalidDevice(f"flags of device {config['name']!r} must be a list, e.g. [{config['flags']!r}]")
            target = replace(target, flags=tuple(map(str, config["flags"])))
        known = {key: _positive(config, key) for key in ("peak_gflops", "bandwidth_gb_s") if key in config}
        return cls(config["name"], target, make_runner(config.get("runner", "local")), **known)

    @property
    def cycle_us(self) -> float | None:
        """Microseconds of a cycle in which two vectors are multiplied and added, None if the peak is not known."""
        return None if self.peak_gflops is None else 4 * self.target.vector / (1e3 * self.peak_gflops)

    @property
    def byte_us(self) -> float | None:
        """Microseconds of reading a byte, None if the bandwidth is not known."""
        return None if self.bandwidth_gb_s is None else 1 / (1e3 * self.bandwidth_gb_s)

    def environment(self) -> Environment:
        """What times measured on the device now depend on."""
        return self.runner.environment(self.name, self.target)


def _positive(config: Mapping[str, Any], key: str) -> float:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidDevice(f"{key} of device {config['name']!r} is {value!r}; give a number above 0, or leave it out")
    return float(value)


def load_device(name: str) -> Device:
    """The device described by `conf/device/<name>.yaml`, or by the YAML file at the path `name`.

    Raises:
        UnknownDevice: if there is no such configuration.
        InvalidDevice: if it cannot be understood.
    """
    folder = resources.files("conf") / "device"
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UnknownDevice(f"there is no device configuration at {path}")
        text = path.read_text()
    else:
        known = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
        if name not in known:
            raise UnknownDevice(f"there is no device {name!r}; known: {', '.join(known)}, or the path of a .yaml file")
        text = (folder / f"{name}.yaml").read_text()
    config = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    if not isinstance(config, dict):
        raise InvalidDevice(f"the configuration of device {name!r} is not a mapping of keys to values")
    return Device.from_config({str(key): value for key, value in config.items()})
