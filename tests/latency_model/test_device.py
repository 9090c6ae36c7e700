from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from compiler.errors import UnknownTarget
from compiler.target import local_target
from latency_model.device import Device, load_device
from latency_model.environment import Environment, npas_version
from latency_model.errors import InvalidDevice, UnknownDevice
from latency_model.runners.local import LocalRunner


def test_local_device_is_this_machine() -> None:
    device = load_device("local")
    assert device.name == "local"
    assert device.target == local_target()
    assert isinstance(device.runner, LocalRunner)
    environment = device.environment()
    assert environment == device.environment()
    assert environment.cpu
    assert environment.compiler
    assert environment.npas == npas_version()


def test_device_from_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "narrow.yaml"
    path.write_text("name: narrow\ntarget: x86_sse\ncompiler: mycc\nflags: [-msse4]\nrunner: {kind: local}\n")
    device = load_device(str(path))
    assert (device.name, device.target.name, device.target.compiler) == ("narrow", "x86_sse", "mycc")
    assert device.target.flags == ("-msse4",)
    assert device.target.vector == 4


def test_unknown_device_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownDevice, match=r"no device 'phone'; known: .*local"):
        load_device("phone")
    with pytest.raises(UnknownDevice, match=r"phone\.yaml"):
        load_device(str(tmp_path / "phone.yaml"))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"name": "x", "vector": 4}, "unknown key 'vector'; its keys are name, target"),
        ({"target": "x86_sse"}, "no name"),
        ({"name": "x", "flags": "-O3"}, "must be a list"),
        ({"name": "x", "runner": "pigeon"}, "no runner of kind 'pigeon'; known: .*local"),
        ({"name": "x", "runner": {"kind": "local", "host": "y"}}, "'local' does not take these options"),
    ],
)
def test_configuration_that_makes_no_sense_is_refused(config: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidDevice, match=said):
        Device.from_config(config)


def test_unknown_target_is_refused() -> None:
    with pytest.raises(UnknownTarget, match="z80"):
        Device.from_config({"name": "x", "target": "z80"})


def test_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- local\n")
    with pytest.raises(InvalidDevice, match="not a mapping"):
        load_device(str(path))


def test_every_fact_changes_the_fingerprint() -> None:
    base = Environment("a", "b", "c", "d", "e", "f")
    others = [replace(base, **{field.name: "z"}) for field in fields(Environment)]
    assert len({environment.fingerprint for environment in (base, *others)}) == len(others) + 1
    assert base.fingerprint == Environment("a", "b", "c", "d", "e", "f").fingerprint
