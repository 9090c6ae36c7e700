"""Generated code under GCC's address and undefined-behaviour sanitizers: what `make sanitize` tests with.

With `NPAS_SANITIZE=1` in the environment, generated code is compiled with checks that end the process at the first
access out of bounds or misaligned access, and the first overflow of a signed number. Python itself is not compiled
so; the sanitizers' library has to be there before it starts, and Python's own leaks are none of ours:

    NPAS_SANITIZE=1 ASAN_OPTIONS=detect_leaks=0 \\
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" python -m pytest tests/compiler

Arena and constants begin and end exactly where guarded memory does. Inside of them the driver closes what is none of
a step's business while it runs; see `compiler.guards`.
"""

from __future__ import annotations

import ctypes
import os
import weakref

import numpy as np
import numpy.typing as npt

_VARIABLE = "NPAS_SANITIZE"
_FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1", "-O1")


def enabled() -> bool:
    """Whether generated code is to be checked."""
    return os.environ.get(_VARIABLE, "0") not in ("", "0")


def flags() -> tuple[str, ...]:
    """Options of the C compiler, none unless it is enabled."""
    return _FLAGS if enabled() else ()


def environment() -> dict[str, str]:
    """The environment of the C compiler, which is not to be checked itself."""
    return {name: value for name, value in os.environ.items() if not (enabled() and name == "LD_PRELOAD")}


def guarded(size: int, alignment: int) -> npt.NDArray[np.uint8]:
    """`size` zero bytes from the C library, which the preloaded sanitizer surrounds by memory that nobody may touch.

    When the interpreter ends, they stay: some other thread may still be running in them.
    """
    library = ctypes.CDLL(None)
    address = ctypes.c_void_p()
    if library.posix_memalign(ctypes.byref(address), ctypes.c_size_t(alignment), ctypes.c_size_t(size)) != 0:
        raise MemoryError(f"cannot allocate {size} bytes")
    memory = (ctypes.c_uint8 * size).from_address(address.value or 0)
    weakref.finalize(memory, library.free, ctypes.c_void_p(address.value)).atexit = False
    array = np.ctypeslib.as_array(memory)
    array[:] = 0
    return array
