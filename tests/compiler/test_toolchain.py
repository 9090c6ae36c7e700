import ctypes
import shlex
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compiler import compile_model
from compiler.errors import CacheUnwritable, CannotRunHere, CompilationFailed, CompilerMissing
from compiler.runtime import Program, Signature
from compiler.target import find_target, local_architecture, local_target
from compiler.toolchain import build_flags, build_library, cache_directory, compiler_version, find_compiler


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NPAS_CACHE", str(tmp_path / "cache"))
    return cache_directory()


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def test_a_second_compile_calls_no_compiler(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    real = find_compiler(local_target())
    version = compiler_version(real)
    logged = script(
        tmp_path / "logging-cc",
        f'case "$1" in --version) echo "{version}";; *) echo call >> {calls}; exec {shlex.join(real)} "$@";; esac',
    )
    monkeypatch.setenv("CC", str(logged))
    model, x = nn.Conv2d(3, 20, 3), torch.randn(1, 3, 9, 9)
    compile_model(model, x)
    first = len(calls.read_text().splitlines())
    assert first >= 3
    other = nn.Conv2d(3, 20, 3)
    compile_model(other, x)
    assert len(calls.read_text().splitlines()) == first


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def undigested(path: Path) -> None:
    path.with_name(f"{path.name}.sha256").unlink()


@pytest.mark.parametrize("damage", [emptied, truncated, altered, zeroed, undigested, Path.unlink])
@pytest.mark.parametrize("kind", ["so", "o"])
def test_a_damaged_file_of_the_cache_is_made_again(cache: Path, kind: str, damage: Callable[[Path], None]) -> None:
    target, source = local_target(), '#define EXPORT __attribute__((visibility("default")))\n'
    functions, driver = [f"{source}int npas_six(void) {{ return 6; }}"], f"int npas_six(void);\n{source}"
    driver += "EXPORT int npas_answer(void) { return 7 * npas_six(); }"
    library = build_library(functions, driver, target)
    whole = {path: path.read_bytes() for path in cache.iterdir()}
    if kind == "o":
        library.unlink()
    for path in cache.glob(f"*.{kind}"):
        damage(path)
    assert build_library(functions, driver, target) == library
    assert {path: path.read_bytes() for path in cache.iterdir()} == whole
    assert ctypes.CDLL(str(library)).npas_answer() == 42


def test_a_cache_that_is_whole_is_left_alone(cache: Path) -> None:
    library = build_library([], "int x;", local_target())
    written = library.stat().st_mtime_ns
    assert build_library([], "int x;", local_target()) == library
    assert library.stat().st_mtime_ns == written


def test_a_library_of_something_else_is_refused_by_name(cache: Path) -> None:
    library = build_library([], "int x;", local_target())
    with pytest.raises(CannotRunHere, match=r"has no function npas_run\b"):
        Program(library, np.zeros(0, np.uint8), Signature((), (), (), 0, 0), local_target())


def test_a_missing_compiler_says_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CompilerMissing, match=r"no-such-compiler.*apt-get install gcc"):
        compile_model(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8))


def test_a_failing_compiler_shows_its_message(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = script(tmp_path / "failing-cc", 'echo "internal compiler error: cosmic ray" >&2; exit 4')
    monkeypatch.setenv("CC", str(failing))
    with pytest.raises(CompilationFailed, match=r"exit code 4(.|\n)*cosmic ray"):
        compile_model(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8))
    assert list(cache.iterdir()) == []


def test_an_unusable_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NPAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheUnwritable, match="NPAS_CACHE"):
        compile_model(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8))


def test_wrong_code_is_the_compilers_error(cache: Path) -> None:
    with pytest.raises(CompilationFailed, match="error"):
        build_library(["int f( {"], "int g;", local_target())


FOREIGN = find_target("x86_avx2" if local_architecture() == "aarch64" else "aarch64_neon")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the only place where commands are looked for, and no compiler in the environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for variable in ("CC", f"CC_{FOREIGN.architecture.upper()}"):
        monkeypatch.delenv(variable, raising=False)
    return folder


def test_a_missing_cross_compiler_says_how_to_install_each(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tools / "no-python"))
    family = FOREIGN.architecture
    said = rf"{FOREIGN.name}.*apt-get install gcc-{family.replace('_', '-')}-linux-gnu.*clang.*pip install ziglang"
    with pytest.raises(CompilerMissing, match=rf"{said}.*CC_{family.upper()}"):
        find_compiler(FOREIGN)


def test_the_first_cross_compiler_that_links_is_taken(tools: Path) -> None:
    family = FOREIGN.architecture
    zig = script(tools / "python", "exit 0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.executable", str(zig))
        assert find_compiler(FOREIGN) == (str(zig), "-m", "ziglang", "cc", "-target", f"{family}-linux-musl")
        script(tools / "clang", "exit 1")  # without headers of the other family
        assert find_compiler(FOREIGN)[0] == str(zig)
        gcc = script(tools / f"{family}-linux-gnu-gcc", "exit 0")
        assert find_compiler(FOREIGN) == (str(gcc),)


def test_environment_and_target_go_before_what_is_found(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tools / f"{FOREIGN.architecture}-linux-gnu-gcc", "exit 0")
    ndk, own = script(tools / "ndk-clang", ""), script(tools / "own-cc", "")
    monkeypatch.setenv(f"CC_{FOREIGN.architecture.upper()}", "ndk-clang --sysroot='/a b'")
    assert find_compiler(FOREIGN) == (str(ndk), "--sysroot=/a b")
    assert find_compiler(replace(FOREIGN, compiler="own-cc -m64")) == (str(own), "-m64")


def test_options_of_the_compiler_are_part_of_the_key(cache: Path, tmp_path: Path) -> None:
    compiler = " ".join(find_compiler(local_target()))
    source = "int npas_answer(void) { return ANSWER; }"
    libraries = [
        build_library([], source, replace(local_target(), compiler=f"{compiler} -DANSWER={answer}"))
        for answer in (1, 2)
    ]
    assert libraries[0] != libraries[1]


def test_flags_of_the_sanitizers_are_part_of_the_key(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPAS_SANITIZE", raising=False)
    plain, flags = build_library([], "int x;", local_target()), build_flags(local_target())
    monkeypatch.setenv("NPAS_SANITIZE", "1")
    assert build_library([], "int x;", local_target()) != plain
    assert {"-fsanitize=address,undefined", "-fno-sanitize-recover=all"} <= set(build_flags(local_target())) - {*flags}
