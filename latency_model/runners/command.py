"""Networks run somewhere else, as programs: one command line brings a program there, another one runs it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from compiler import CompiledModel, Target, Timing, compiler_version, find_compiler
from compiler.toolchain import build_flags
from latency_model.environment import Environment, npas_version
from latency_model.errors import DeviceHung, DeviceLost, InvalidDevice, OutputUnreadable, ProgramNotBuilt
from latency_model.runner import Floats, Runner, runner

GIVEN = ("local", "seconds")
GO_ON = "What was measured before is kept: give the same command again to go on."

LARGEST_OUTPUT = 1 << 28
"""Bytes that a command may print: a thousand times what a network does."""
POLL_S = 0.02

_NANOSECONDS = re.compile(r"[0-9]{1,15}")
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
            words = _filled(self._run, given)
            text = _call(words, self._timeout_s + 2 * seconds)
        return _parse(text, compiled.program.signature.kernels, shlex.join(words))


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
    """What a command prints; it is ended, and all that it started, when it does not end by itself."""
    said = shlex.join(words)
    # Files rather than pipes: nobody waits for what a command leaves running in the background, or fills the memory.
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as told:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=printed, stderr=told, start_new_session=True
            )
        except OSError as error:
            raise DeviceLost(f"{said} cannot be run: {error.strerror}. {GO_ON}") from error
        try:
            _wait(process, (printed, told), said, timeout_s)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output, errors = _text(printed), _text(told)
    if process.returncode:
        raise DeviceLost(
            f"{said} {_ending(process.returncode)}: {_last(errors) or _last(output) or 'it printed nothing'}. Look "
            f"whether the device is there and has room. {GO_ON}"
        )
    return output


def _wait(process: subprocess.Popen[bytes], files: Sequence[IO[bytes]], said: str, timeout_s: float) -> None:
    """Until the command ends by itself."""
    end = time.monotonic() + timeout_s
    while process.poll() is None:
        if any(os.fstat(file.fileno()).st_size > LARGEST_OUTPUT for file in files):
            raise OutputUnreadable(
                f"{said} printed more than {LARGEST_OUTPUT / 1e6:.0f} MB and was ended. It must print what the program "
                f"prints, and nothing else. {GO_ON}"
            )
        if time.monotonic() > end:
            raise DeviceHung(
                f"the device gave no answer within {timeout_s:g} s to {said}. Look whether it is busy or asleep, and "
                "end the program there if it still runs; or allow more time: device.runner.timeout_s=... "
                f"{GO_ON}"
            )
        time.sleep(POLL_S)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _ending(status: int) -> str:
    return f"failed with status {status}" if status > 0 else f"was ended by {signal.Signals(-status).name}"


def _parse(text: str, kernels: int, said: str) -> Timing:
    """Times as `network -s` prints them: a first line with their number, a line a run, and a last line."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    begin = ["npas-times", str(kernels)]
    advice = f"Look what {said} prints: it must be all that the program prints there. {GO_ON}"
    if begin not in lines:
        raise OutputUnreadable(f"no times of {kernels} kernels came from the device, but {_excerpt(text)!r}. {advice}")
    rows = lines[lines.index(begin) + 1 : -1]
    if lines[-1] != ["npas-end"]:
        raise OutputUnreadable(
            f"the times from the device break off in run {len(rows) + 1}, with {_excerpt(' '.join(lines[-1]))!r} in "
            f"place of npas-end: the program died, or its output was cut. {advice}"
        )
    wrong = next((row for row in rows if len(row) != kernels + 2 or not all(map(_NANOSECONDS.fullmatch, row))), None)
    if wrong is not None or not rows:
        found = _excerpt(" ".join(wrong or []))
        odd = next((f"{word[:40]!r} in " for word in wrong or [] if not _NANOSECONDS.fullmatch(word)), "")
        raise OutputUnreadable(
            f"{odd}{found!r} came from the device where {kernels + 2} whole numbers, nanoseconds of a run, are "
            f"expected. {advice}"
        )
    times: Floats = np.array(rows, np.float64)
    if not np.median(times[:, 1]) > 0:
        raise OutputUnreadable(f"a run took 0 ns by the clock of the device, which cannot be. {advice}")
    return Timing(times[:, 1] / 1e6, times[:, 2:] / 1e3, times[:, 0] / 1e6)


def _last(text: str) -> str:
    """The last line, such that it can be shown."""
    line = text.strip().splitlines()[-1] if text.strip() else ""
    return _excerpt("".join(letter if letter.isprintable() else "?" for letter in line))


def _excerpt(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:80]} ... {text[-70:]}"
