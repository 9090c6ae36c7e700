"""Programs on other devices: an OpenSSH server, a stand-in for adb, an emulator; and what goes wrong."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compiler import CompiledModel, KernelSpec, compile_specs
from compiler.target import NEON
from latency_model.device import Device, load_device
from latency_model.errors import (
    DeviceHung,
    DeviceLost,
    InvalidDevice,
    MeasurementFailed,
    OutputUnreadable,
    ProgramNotBuilt,
    TimesEmulated,
)
from latency_model.predictor import LatencyPredictor
from latency_model.profile import profile
from latency_model.runners.command import CommandRunner
from latency_model.store import KernelStore

SPECS = [
    KernelSpec("conv", 8, 8, 6, 6, (3, 3), padding=(1, 1), epilogue=("relu",)),
    KernelSpec("conv", 8, 12, 6, 6),
    KernelSpec("global_pool", 8, 8, 6, 6),
]
HERE = "{local}/network -s {seconds}"


def local_device(run: str, **options: object) -> Device:
    return Device.from_config({"name": "there", "runner": {"kind": "command", "run": run, **options}})


@pytest.fixture(scope="module")
def compiled() -> CompiledModel:
    return compile_specs(SPECS)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


def test_times_of_a_program_are_those_of_its_kernels() -> None:
    measured = CommandRunner(HERE).measure(SPECS, load_device("local").target, seconds=0.05, seed=0)
    assert measured.kernel_us.shape[0] >= 30
    assert measured.kernel_us.shape[1] == len(SPECS)
    assert (np.median(measured.kernel_us, axis=0) > 0).all()
    assert measured.wall_us > 0
    assert measured.cpu_us > 0


def test_numbers_arrive_in_the_right_columns(compiled: CompiledModel, tmp_path: Path) -> None:
    kernels = compiled.program.signature.kernels
    row = " ".join(str(1000 * (index + 1)) for index in range(kernels))
    program = script(tmp_path / "program", f"print('Welcome\\nnpas-times {kernels}\\n7000 8000 {row}\\nnpas-end')")
    timing = CommandRunner(str(program)).time(compiled, seconds=0.1)
    np.testing.assert_allclose(timing.kernel_us, [np.arange(1, kernels + 1)])
    np.testing.assert_allclose(timing.total_ms, [0.008])
    np.testing.assert_allclose(timing.cpu_ms, [0.007])


def test_profile_of_a_device_that_is_reached_by_commands(tmp_path: Path) -> None:
    store = KernelStore(tmp_path / "kernels")
    table = profile(SPECS, local_device(HERE, cpu="Model 7"), store, seconds=0.01)
    assert len(table) == len(SPECS)
    raw = store.read()
    assert set(raw["device"]) == {"there"}
    assert set(raw["cpu"]) == {"Model 7"}
    assert (raw["network_wall_us"] > 0).all()
    assert raw["clock_mhz"].isna().all()


GARBAGE = {
    "nothing": "pass",
    "other text": "print('segmentation fault')",
    "cut off": "print('npas-times {kernels}\\n1 2' + ' 3' * {kernels})",
    "a row too short": "print('npas-times {kernels}\\n1 2 3\\nnpas-end')",
    "no run": "print('npas-times {kernels}\\nnpas-end')",
    "letters": "print('npas-times {kernels}\\n1 2' + ' x' * {kernels} + '\\nnpas-end')",
    "negative": "print('npas-times {kernels}\\n1 2' + ' -3' * {kernels} + '\\nnpas-end')",
    "not a number": "print('npas-times {kernels}\\n1 2' + ' nan' * {kernels} + '\\nnpas-end')",
    "a digit that is none": "print('npas-times {kernels}\\n1 2' + ' \\u00b2' * {kernels} + '\\nnpas-end')",
    "too large": "print('npas-times {kernels}\\n1 2' + ' ' + ' '.join(['9' * 400] * {kernels}) + '\\nnpas-end')",
    "no time passed": "print('npas-times {kernels}\\n0 0' + ' 3' * {kernels} + '\\nnpas-end')",
    "another network": "print('npas-times 99\\n' + '1 ' * 101 + '\\nnpas-end')",
    "bytes": "import os; os.write(1, bytes(range(256)))",
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_told_by_name(compiled: CompiledModel, tmp_path: Path, text: str) -> None:
    program = script(tmp_path / "program", text.replace("{kernels}", str(compiled.program.signature.kernels)))
    with pytest.raises(OutputUnreadable, match="same command again to go on") as caught:
        CommandRunner(str(program)).time(compiled, seconds=0.01)
    assert str(program) in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_a_program_that_dies_in_the_middle_says_how_far_it_came(compiled: CompiledModel, tmp_path: Path) -> None:
    kernels = compiled.program.signature.kernels
    program = script(tmp_path / "program", f"print('npas-times {kernels}' + 3 * ('\\n1 2' + ' 3' * {kernels}))")
    with pytest.raises(OutputUnreadable, match=rf"break off in run 3, with '1 2{' 3' * kernels}' in place of npas-end"):
        CommandRunner(str(program)).time(compiled, seconds=0.01)
    killed = script(tmp_path / "killed", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(DeviceLost, match="was ended by SIGSEGV: it printed nothing"):
        CommandRunner(str(killed)).time(compiled, seconds=0.01)


def test_a_program_that_never_stops_printing_is_ended(
    compiled: CompiledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_model.runners.command.LARGEST_OUTPUT", 1_000_000)
    for stream in ("stdout", "stderr"):
        program = script(tmp_path / stream, f"import sys\nwhile True: sys.{stream}.write(999 * 'garbage ')")
        with pytest.raises(OutputUnreadable, match=r"printed more than 1 MB and was ended.*same command again"):
            CommandRunner(str(program)).time(compiled, seconds=0.01)


@pytest.mark.parametrize("line", ["x" * 100_000, "\033[2Jred\r\a" + "x" * 300])
def test_what_a_command_said_can_be_shown(compiled: CompiledModel, tmp_path: Path, line: str) -> None:
    program = script(tmp_path / "program", f"import sys; print({line!r}, file=sys.stderr); sys.exit(4)")
    with pytest.raises(DeviceLost, match=r"status 4: .*x{20} \.\.\. x{20}.*Look whether") as caught:
        CommandRunner(str(program)).time(compiled, seconds=0.01)
    told = str(caught.value).split("status 4: ")[1]
    assert len(told) < 400
    assert told.isprintable()


def test_zero_times_are_refused(tmp_path: Path) -> None:
    text = "import subprocess, sys\nfor line in subprocess.run(sys.argv[1:], capture_output=True, text=True)"
    text += ".stdout.splitlines(): print('8 9' + ' 0' * len(line.split()[2:]) if line[0].isdigit() else line)"
    program = script(tmp_path / "program", text)
    store = KernelStore(tmp_path / "kernels")
    with pytest.raises(MeasurementFailed, match=r"8 to .* not positive .* \[0\.\] us.*same command again"):
        profile(SPECS, local_device(f"{program} {HERE}"), store, seconds=0.01)
    assert not len(store.read())


def test_a_program_that_hangs_is_stopped(compiled: CompiledModel, tmp_path: Path) -> None:
    program = script(tmp_path / "program", "import time; time.sleep(60)")
    begin = time.monotonic()
    with pytest.raises(DeviceHung, match=r"no answer within 0\.5 s .*timeout_s"):
        CommandRunner(str(program), timeout_s=0.3).time(compiled, seconds=0.1)
    assert time.monotonic() - begin < 30


LEAVES_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({path!r}, "w").write(str(child.pid))
"""


def test_what_a_program_that_hangs_has_started_is_ended_with_it(compiled: CompiledModel, tmp_path: Path) -> None:
    path = tmp_path / "child"
    program = script(tmp_path / "program", LEAVES_A_CHILD.format(path=str(path)) + "child.wait()")
    with pytest.raises(DeviceHung):
        CommandRunner(str(program), timeout_s=3).time(compiled, seconds=0.01)
    status = Path("/proc") / path.read_text() / "status"
    assert not status.exists() or "zombie" in status.read_text()


def test_nobody_waits_for_what_a_command_leaves_in_the_background(compiled: CompiledModel, tmp_path: Path) -> None:
    path = tmp_path / "child"
    push = script(tmp_path / "push", LEAVES_A_CHILD.format(path=str(path)))
    timing = CommandRunner(HERE, push=[str(push)], timeout_s=20).time(compiled, seconds=0.01)
    os.kill(int(path.read_text()), signal.SIGKILL)
    assert timing.runs >= 30


@pytest.mark.parametrize(
    ("run", "said"),
    [("sh -c 'echo no such device >&2; exit 3'", "status 3: no such device"), ("/no/such/program", "cannot be run")],
)
def test_a_command_that_fails_says_what_it_said(compiled: CompiledModel, run: str, said: str) -> None:
    with pytest.raises(DeviceLost, match=said):
        CommandRunner(run).time(compiled, seconds=0.01)
    with pytest.raises(DeviceLost, match=said):
        CommandRunner(HERE, push=[run]).time(compiled, seconds=0.01)


def test_program_that_cannot_be_built_is_told(compiled: CompiledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", "CC=false")
    with pytest.raises(ProgramNotBuilt, match="cannot be built"):
        CommandRunner(HERE).time(compiled, seconds=0.01)


def test_what_was_measured_before_a_device_vanished_is_kept(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    text = f"""
import os, pathlib, sys
count = pathlib.Path({str(count)!r})
done = int(count.read_text())
if done == 1:
    sys.exit("error: device offline")
count.write_text(str(done + 1))
os.execv(sys.argv[1], sys.argv[1:])
"""
    device = local_device(f"{script(tmp_path / 'fragile', text)} {HERE}")
    store = KernelStore(tmp_path / "kernels")
    with pytest.raises(DeviceLost, match=r"device offline.*same command again to go on"):
        profile(SPECS, device, store, seconds=0.01)
    kept = store.read()
    assert kept["network"].nunique() == 1
    assert len(kept) == len(SPECS)
    count.write_text("-99")
    table = profile(SPECS, device, store, seconds=0.01)
    assert len(table) == len(SPECS)
    again = store.read()
    assert len(again) > len(kept)
    pd.testing.assert_frame_equal(again.iloc[: len(kept)], kept)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"run": "ssh {host} x"}, r"\{host\} .*stands for nothing; known: local, seconds.*settings.host="),
        ({"run": "ssh {host} x", "settings": {"host": None}}, r"\{host\}"),
        ({"run": HERE, "push": "scp x y"}, "push must be a list"),
        ({"run": HERE, "timeout_s": 0}, "timeout_s is 0"),
        ({"run": HERE, "port": 5}, "'command' does not take these options"),
        ({}, "'command' does not take these options"),
    ],
)
def test_configuration_that_makes_no_sense_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidDevice, match=said):
        Device.from_config({"name": "x", "runner": {"kind": "command", **options}})


def test_words_of_a_command_line_are_never_run_by_a_shell(compiled: CompiledModel, tmp_path: Path) -> None:
    program = script(tmp_path / "program", "import sys; sys.exit(repr(sys.argv[1:]))")
    with pytest.raises(DeviceLost) as caught:
        CommandRunner(f"{program} {{what}} 'two words' $HOME", settings={"what": "`date`;"}).time(
            compiled, seconds=0.01
        )
    assert str(["`date`;", "two words", "$HOME"]) in str(caught.value)


ADB = """
import pathlib, shutil, subprocess, sys
root = pathlib.Path({root!r})
verb, *rest = sys.argv[1:]
inside = lambda path: root / path.lstrip("/")
if not root.exists():
    sys.exit("adb: no devices/emulators found")
if verb == "push":
    *files, folder = rest
    if not inside(folder).is_dir():
        sys.exit(f"adb: error: failed to copy: remote couldn't create file: {{folder}}")
    for file in files:
        shutil.copy(file, inside(folder))
    print(f"{{len(files)}} files pushed.")
elif verb == "shell":
    words = [str(inside(word)) if word.startswith("/data") else word for word in " ".join(rest).split()]
    sys.exit(subprocess.run([word for word in words if word not in ("taskset", "f0")]).returncode)
else:
    sys.exit(f"adb: unknown command {{verb}}")
"""


def test_android_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phone = tmp_path / "phone"
    phone.mkdir()
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "adb", ADB.format(root=str(phone)))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    device = load_device("android_adb")
    assert device.target == NEON
    compiled = compile_specs(SPECS)
    timing = device.runner.time(compiled, seconds=0.02)
    assert timing.runs >= 30
    assert (phone / "data/local/tmp/npas/network").is_file()
    shutil.rmtree(phone)
    with pytest.raises(DeviceLost, match="no devices/emulators found"):
        device.runner.time(compiled, seconds=0.02)


@pytest.fixture
def ssh_server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """An OpenSSH server on localhost that lets in one key: its port and the private key."""
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if server is None or shutil.which("ssh") is None or shutil.which("scp") is None:
        pytest.skip("OpenSSH is not installed")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path / 'host'}\nPidFile {tmp_path / 'pid'}\n"
        f"AuthorizedKeysFile {tmp_path / 'user.pub'}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "PermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    with subprocess.Popen([server, "-D", "-e", "-f", tmp_path / "config"], stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield port, tmp_path / "user"
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the ssh server did not start")


def test_machine_behind_ssh(ssh_server: tuple[int, Path], tmp_path: Path) -> None:
    port, key = ssh_server
    text = (Path(__file__).parents[3] / "conf" / "device" / "ssh.yaml").read_text()
    options = f"-oBatchMode=yes -oPort={port} -oIdentityFile={key} -oStrictHostKeyChecking=no "
    options += "-oUserKnownHostsFile=/dev/null -oLogLevel=ERROR"
    text = text.replace("host: null", "host: 127.0.0.1").replace("-oBatchMode=yes", f'"{options}"')
    text = text.replace("folder: npas-profile", f"folder: {tmp_path / 'there'}")
    (tmp_path / "board.yaml").write_text(text)
    device = load_device(str(tmp_path / "board.yaml"))
    table = profile(SPECS, device, KernelStore(tmp_path / "kernels"), seconds=0.02)
    assert len(table) == len(SPECS)
    assert (table["median_us"] > 0).all()
    assert (tmp_path / "there" / "network").is_file()
    (tmp_path / "user.pub").unlink()
    with pytest.raises(DeviceLost, match="Permission denied"):
        device.runner.time(compile_specs(SPECS), seconds=0.02)


def test_ssh_without_a_host_says_what_to_set() -> None:
    with pytest.raises(InvalidDevice, match=r"device\.runner\.settings\.host=\.\.\."):
        load_device("ssh")


def test_emulator_runs_programs_but_its_times_are_refused(table: pd.DataFrame) -> None:
    device = load_device("aarch64_qemu")
    with pytest.raises(TimesEmulated, match="aarch64_qemu is emulated"):
        LatencyPredictor.fit(table, device)
    if shutil.which("qemu-aarch64") is None or shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("no emulator or cross compiler: make cross installs them")
    measured = device.runner.measure(SPECS[:2], device.target, seconds=0.01, seed=0)
    assert measured.kernel_us.shape[1] == 2
    assert math.isfinite(measured.cpu_us)
