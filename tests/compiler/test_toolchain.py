import stat
from pathlib import Path

import pytest
import torch
from torch import nn

from compiler import compile_model
from compiler.errors import CacheUnwritable, CompilationFailed, CompilerMissing
from compiler.target import local_target
from compiler.toolchain import build_library, cache_directory, compiler_version, find_compiler


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
        f'case "$1" in --version) echo "{version}";; *) echo call >> {calls}; exec {real} "$@";; esac',
    )
    monkeypatch.setenv("CC", str(logged))
    model, x = nn.Conv2d(3, 20, 3), torch.randn(1, 3, 9, 9)
    compile_model(model, x)
    first = len(calls.read_text().splitlines())
    assert first >= 3
    other = nn.Conv2d(3, 20, 3)
    compile_model(other, x)
    assert len(calls.read_text().splitlines()) == first


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
