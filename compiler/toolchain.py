"""The system's C compiler, behind a cache keyed by content."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from compiler.errors import CacheUnwritable, CompilationFailed, CompilerMissing
from compiler.target import Target

FLAGS = ("-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno", "-std=gnu11", "-w")


def cache_directory() -> Path:
    """Where compiled kernels are kept: `$NPAS_CACHE`, or `npas` in the user's cache directory."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "npas"
    return Path(os.environ.get("NPAS_CACHE", default)) / "kernels"


def find_compiler(target: Target) -> str:
    """Path of the C compiler for `target`.

    Raises:
        CompilerMissing: saying how to install one.
    """
    asked = target.compiler or os.environ.get("CC", "")
    for name in [asked] if asked else ["cc", "gcc", "clang"]:
        path = shutil.which(name)
        if path:
            return path
    raise CompilerMissing(
        f"no C compiler found (looked for {asked or 'cc, gcc, clang'}). Install one, for example "
        "`apt-get install gcc` on Debian and Ubuntu, `xcode-select --install` on macOS, or set CC to its path."
    )


@lru_cache(maxsize=8)
def compiler_version(path: str) -> str:
    """First line of `--version`."""
    result = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return result.stdout.splitlines()[0] if result.stdout else path


def build_library(functions: Sequence[str], driver: str, target: Target) -> Path:
    """Compile each function and the driver, and link them; what is in the cache already is not compiled again.

    Returns:
        path of the shared library, which is kept in the cache.

    Raises:
        CompilerMissing: if there is no compiler.
        CompilationFailed: with the compiler's message.
        CacheUnwritable: if the cache directory cannot be written.
    """
    compiler = find_compiler(target)
    cache = cache_directory()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheUnwritable(
            f"cannot create the kernel cache {cache}: {error.strerror}; set NPAS_CACHE to a writable directory"
        ) from error
    flags = (*FLAGS, *target.flags)
    version = compiler_version(compiler)

    def compile_one(source: str) -> Path:
        path = cache / f"{_key(source, *flags, version)}.o"
        return path if path.exists() else _run(compiler, [*flags, "-c"], source, path)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(compile_one, [*functions, driver]))
    library = cache / f"{_key(*(path.name for path in objects))}.so"
    if not library.exists():
        _run(compiler, ["-shared", "-pthread", *map(str, objects), "-lm"], None, library)
    return library


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _run(compiler: str, arguments: list[str], source: str | None, output: Path) -> Path:
    """Run the compiler into a temporary file beside `output`, then move it there."""
    try:
        handle, temporary = tempfile.mkstemp(dir=output.parent, suffix=output.suffix)
    except OSError as error:
        raise CacheUnwritable(
            f"cannot write to the kernel cache {output.parent}: {error.strerror}; "
            "free some space, or set NPAS_CACHE to a writable directory"
        ) from error
    os.close(handle)
    command = [compiler, *arguments, "-o", temporary]
    if source is not None:
        command += ["-x", "c", "-"]
    try:
        result = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise CompilationFailed(
                f"{compiler} failed with exit code {result.returncode}:\n{result.stderr.strip()[:2000]}\n"
                f"command: {' '.join(command)}"
            )
        os.chmod(temporary, 0o755)
        os.replace(temporary, output)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return output
