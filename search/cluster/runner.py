"""Timing on the node of a cluster that has the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler import CompiledModel, KernelSpec, Target, Timing, load_compiled
from latency_model import Device
from latency_model.environment import Environment
from latency_model.runner import Measured, Runner
from latency_model.runners.local import LocalRunner
from search.cluster.base import Cluster
from search.cluster.parcel import Parcel, pack_compiled, unpacked


class ClusterRunner(Runner):
    """Has the node that owns the device do what the runner of the device's configuration does.

    Attributes:
        in_process: whether networks run in a process of that node, rather than on what is connected to it.
    """

    def __init__(self, cluster: Cluster, config: Mapping[str, Any], *, in_process: bool, emulated: bool) -> None:
        self.in_process = in_process
        self.emulated = emulated
        self._cluster = cluster
        self._config = config

    def environment(self, device: str, target: Target) -> Environment:
        return self._cluster.on_device(_environment, self._config, device, target)

    def clock_mhz(self) -> float:
        return self._cluster.on_device(_clock_mhz, self._config)

    def time(self, compiled: CompiledModel, *, seconds: float) -> Timing:
        return self._cluster.on_device(_time, self._config, pack_compiled(compiled), seconds)

    def measure(self, specs: Sequence[KernelSpec], target: Target, *, seconds: float, seed: int) -> Measured:
        return self._cluster.on_device(_measure, self._config, specs, target, seconds, seed)


def device_on(cluster: Cluster, config: Mapping[str, Any]) -> Device:
    """The device of `config` as it is on the node that has it: `local` is that node's processor, not this one."""
    name, target, in_process, emulated = cluster.on_device(_described, config)
    return Device(name, target, ClusterRunner(cluster, config, in_process=in_process, emulated=emulated))


def _described(config: Mapping[str, Any]) -> tuple[str, Target, bool, bool]:
    device = Device.from_config(config)
    return device.name, device.target, isinstance(device.runner, LocalRunner), device.runner.emulated


def _environment(config: Mapping[str, Any], device: str, target: Target) -> Environment:
    return Device.from_config(config).runner.environment(device, target)


def _clock_mhz(config: Mapping[str, Any]) -> float:
    return Device.from_config(config).runner.clock_mhz()


def _time(config: Mapping[str, Any], parcel: Parcel, seconds: float) -> Timing:
    with unpacked(parcel) as folder:
        return Device.from_config(config).runner.time(load_compiled(folder), seconds=seconds)


def _measure(
    config: Mapping[str, Any], specs: Sequence[KernelSpec], target: Target, seconds: float, seed: int
) -> Measured:
    return Device.from_config(config).runner.measure(specs, target, seconds=seconds, seed=seed)
