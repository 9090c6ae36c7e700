"""The system's C compiler, behind a cache keyed by content.

Beside every file of the cache lies its digest: one that is no longer as it was made is made again.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from compiler import sanitizer
from compiler.errors import CacheUnwritable, CompilationFailed, CompilerMissing
from compiler.target import Target

FLAGS = ("-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno", "-std=gnu11", "-w")


def cache_directory() -> Path:
    """Where compiled kernels are kept: `$NPAS_CACHE`, or `npas` in the user's cache directory."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "npas"
    return Path(os.environ.get("NPAS_CACHE", default)) / "kernels"


def find_compiler(target: Target) -> tuple[str, ...]:
    """Command of the C compiler for `target`: the target's own, or one from the environment, or one that is installed.

    For this machine's processor family `$CC`, then `cc`, `gcc` and `clang` are looked for. For another one, say
    aarch64, it is `$CC_AARCH64`, then Debian's `aarch64-linux-gnu-gcc`, `clang --target=aarch64-linux-gnu` and the
    clang of the Python package `ziglang`; the first that can link a library is taken.

    Raises:
        CompilerMissing: saying how to install one.
    """
    family = target.architecture
    variable = f"CC_{family.upper()}" if target.is_foreign else "CC"
    asked = target.compiler or os.environ.get(variable, "")
    if asked:
        candidates = [shlex.split(asked)]
    elif target.is_foreign:
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{family}-linux-musl"]
        candidates = [[f"{family}-linux-gnu-gcc"], ["clang", f"--target={family}-linux-gnu"], zig]
    else:
        candidates = [["cc"], ["gcc"], ["clang"]]
    for name, *options in candidates:
        path = shutil.which(name)
        if path and (asked or not target.is_foreign or _links((path, *options))):
            return (path, *options)
    if asked or not target.is_foreign:
        raise CompilerMissing(
            f"no C compiler found (looked for {asked or 'cc, gcc, clang'}). Install one, for example "
            f"`apt-get install gcc` on Debian and Ubuntu, `xcode-select --install` on macOS, or set {variable} to its "
            "path."
        )
    package = f"gcc-{family.replace('_', '-')}-linux-gnu"
    raise CompilerMissing(
        f"no C compiler for {target.name} found. Install one: `apt-get install {package}` on Debian and Ubuntu, clang "
        f"with the headers and libraries of {family}, or `pip install ziglang`; or set {variable} to a command, for a "
        "phone the clang of the Android NDK."
    )


def build_flags(target: Target) -> tuple[str, ...]:
    """Options that generated code is compiled with; under `NPAS_SANITIZE` they put it under the sanitizers."""
    return (*FLAGS, *(() if target.is_foreign else sanitizer.flags()), *target.flags)


@lru_cache(maxsize=32)
def _links(command: tuple[str, ...]) -> bool:
    """Whether a compiler finds headers and a linker of its target."""
    source = "#include <string.h>\nvoid *f(void *x) { return memset(x, 0, 8); }\n"
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*command, "-shared", "-fPIC", "-x", "c", "-", "-o", f"{folder}/probe.so"]
        return subprocess.run(arguments, input=source.encode(), capture_output=True, check=False).returncode == 0


@lru_cache(maxsize=32)
def compiler_version(command: tuple[str, ...]) -> str:
    """First line of `--version`."""
    result = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    return result.stdout.splitlines()[0] if result.stdout else command[0]


def build_library(functions: Sequence[str], driver: str, target: Target) -> Path:
    """Compile each function and the driver, and link them; what is whole in the cache is not compiled again.

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
    flags = build_flags(target)
    version = (*compiler[1:], compiler_version(compiler))

    sources = {cache / f"{_key(source, *flags, *version)}.o": source for source in (*functions, driver)}
    library = cache / f"{_key(*(path.name for path in sources))}.so"
    if _is_whole(library):
        return library

    def compile_one(path: Path) -> None:
        if not _is_whole(path):
            _run(compiler, [*flags, "-c"], sources[path], path)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(compile_one, sources))
    return _run(compiler, [*flags, "-shared", "-pthread", *map(str, sources), "-lm"], None, library)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _is_whole(path: Path) -> bool:
    """Whether a file of the cache is there and has the digest that lies beside it."""
    try:
        return _digest_of(path).read_bytes() == hashlib.sha256(path.read_bytes()).hexdigest().encode()
    except OSError:
        return False


def _digest_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _run(compiler: tuple[str, ...], arguments: list[str], source: str | None, output: Path) -> Path:
    """Run the compiler into a temporary file beside `output`, then move it there."""
    with _writing(output.parent):
        handle, temporary = tempfile.mkstemp(dir=output.parent, suffix=output.suffix)
        os.close(handle)
    command = [*compiler, *arguments, "-o", temporary]
    if source is not None:
        command += ["-x", "c", "-"]
    try:
        result = subprocess.run(
            command, input=source, capture_output=True, text=True, check=False, env=sanitizer.environment()
        )
        if result.returncode != 0:
            raise CompilationFailed(
                f"{compiler[0]} failed with exit code {result.returncode}:\n{result.stderr.strip()[:2000]}\n"
                f"command: {' '.join(command)}"
            )
        with _writing(output.parent):
            _keep(Path(temporary), output)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return output


def _keep(temporary: Path, output: Path) -> None:
    """Move a file to its place in the cache once the disk holds all of it, and put its digest beside it."""
    with temporary.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    temporary.chmod(0o755)
    temporary.replace(output)
    _digest_of(output).write_text(digest)


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    """Names the cache if the system refuses to write to it."""
    try:
        yield
    except OSError as error:
        raise CacheUnwritable(
            f"cannot write to the kernel cache {cache}: {error.strerror}; "
            "free some space, or set NPAS_CACHE to a writable directory"
        ) from error
