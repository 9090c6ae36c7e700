"""Networks run somewhere else, as programs: one command line brings a program there, another one runs it."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler import CompiledModel, Target, Timing, compiler_version, find_compiler
from compiler.toolchain import build_flags
from latency_model.environment import Environment, npas_version
from latency_model.errors import DeviceHung, DeviceLost, InvalidDevice, OutputUnreadable, ProgramNotBuilt
from latency_model.runner import Floats, Runner, runner

GIVEN = ("local", "seconds")
GO_ON = "What was measured before is kept: give the same command again to go on."

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@runner("command")
class CommandRunner(Runner):
    """Builds each network as a program without dependencies, brings it to the device and runs it there.

    In a command line each name in braces stands for the entry of that name in `settings`. It is then split into words
    as a shell would, and run without one. In its words `{local}` stands for the folder with the files `network` and
    `weights.bin`, and `{seconds}` for the time to run.

    Args:
        run: command line that runs the program there with `-s {seconds}` and prints what it prints.
        push: command lines that bring the program there, in order; none where the device sees this file system.
        settings: further words of the command lines, e.g. host and folder.
        cpu: model of the processor there, for the tables.
        timeout_s: seconds that a command may take beyond the time that networks are to run for.
        emulated: whether the program is emulated, so that its times say nothing about the device.

    Raises:
        InvalidDevice: if a placeholder or a value of these makes no sense.
    """

    def __init__(
        self,
        run: str,
        push: Sequence[str] = (),
        settings: Mapping[str, str | None] | None = None,
        cpu: str = "",
        timeout_s: float = 60.0,
        emulated: bool = False,
    ) -> None:
        if isinstance(push, str):
            raise InvalidDevice(f"push must be a list of command lines, e.g. [{push!r}]")
        if timeout_s <= 0:
            raise InvalidDevice(f"timeout_s is {timeout_s}; it must be larger than 0 seconds")
        known = {name: "" if value is None else str(value) for name, value in (settings or {}).items()}
        self.emulated = emulated
        self._cpu = cpu
        self._timeout_s = timeout_s
        self._push = [_words(line, known) for line in push]
        self._run = _words(run, known)

    def environment(self, device: str, target: Target) -> Environment:
        return Environment(
            device=device,
            target=target.name,
            cpu=self._cpu or device,
            compiler=compiler_version(find_compiler(target)),
            flags=" ".join(build_flags(target)),
            npas=npas_version(),
        )

    def clock_mhz(self) -> float:
        return float("nan")

    def time(self, compiled: CompiledModel, *, seconds: float) -> Timing:
        with tempfile.TemporaryDirectory(prefix="npas-") as folder:
            _build(compiled, Path(folder))
            given = {"local": folder, "seconds": f"{seconds:g}"}
            for words in self._push:
                _call(_filled(words, given), self._timeout_s)
            text = _call(_filled(self._run, given), self._timeout_s + 2 * seconds)
        return _parse(text, compiled.program.signature.kernels)


def _words(line: str, settings: Mapping[str, str]) -> list[str]:
    """The words of a command line with the settings filled in; refuses names that stand for nothing."""
    for name in _PLACEHOLDER.findall(line):
        if name not in GIVEN and not settings.get(name):
            known = ", ".join([*GIVEN, *settings])
            raise InvalidDevice(
                f"{{{name}}} in the command line {line!r} stands for nothing; known: {known}. "
                f"Set it: device.runner.settings.{name}=..."
            )
    return shlex.split(_PLACEHOLDER.sub(lambda found: settings.get(found[1], found[0]), line))


def _filled(words: Sequence[str], given: Mapping[str, str]) -> list[str]:
    return [_PLACEHOLDER.sub(lambda found: given.get(found[1], found[0]), word) for word in words]


def _build(compiled: CompiledModel, folder: Path) -> None:
    compiled.build_standalone(folder)
    built = subprocess.run(["make", "--silent", "-C", str(folder)], capture_output=True, text=True, check=False)
    if built.returncode:
        raise ProgramNotBuilt(f"the program of a network cannot be built: {_last(built.stderr)}. {GO_ON}")


def _call(words: Sequence[str], timeout_s: float) -> str:
    """What a command prints."""
    said = shlex.join(words)
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceHung(
            f"the device gave no answer within {timeout_s:g} s to {said}. Look whether it is busy or asleep, or allow "
            f"more time: device.runner.timeout_s=... {GO_ON}"
        ) from error
    except OSError as error:
        raise DeviceLost(f"{said} cannot be run: {error.strerror}. {GO_ON}") from error
    if done.returncode:
        told = _last(done.stderr) or _last(done.stdout) or "it printed nothing"
        raise DeviceLost(
            f"{said} failed with status {done.returncode}: {told}. Look whether the device is there and has room. "
            f"{GO_ON}"
        )
    return done.stdout


def _parse(text: str, kernels: int) -> Timing:
    """Times as `network -s` prints them: a first line with their number, a line a run, and a last line."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    begin = ["npas-times", str(kernels)]
    if begin not in lines or lines[-1] != ["npas-end"]:
        raise OutputUnreadable(
            f"the program on the device printed no complete times of {kernels} kernels, but {_excerpt(text)!r}. {GO_ON}"
        )
    rows = lines[lines.index(begin) + 1 : -1]
    wrong = next((row for row in rows if len(row) != kernels + 2 or not all(word.isdigit() for word in row)), None)
    if wrong is not None or not rows:
        raise OutputUnreadable(
            f"the program on the device printed {_excerpt(' '.join(wrong or []))!r} where {kernels + 2} numbers of a "
            f"run are expected. {GO_ON}"
        )
    times: Floats = np.array(rows, np.float64)
    return Timing(times[:, 1] / 1e6, times[:, 2:] / 1e3, times[:, 0] / 1e6)


def _last(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""


def _excerpt(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:40]} ... {text[-30:]}"
