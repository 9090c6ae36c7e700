"""Memory that is free, but not yet anybody else's."""

from __future__ import annotations

import ctypes


def give_back_memory() -> None:
    """Return what the C library holds of freed tensors to the system, where that is glibc; elsewhere nothing happens.

    It keeps what it cannot hand out again in one piece, so that a process which runs one differently shaped network
    after another grows by megabytes with each, though it holds none of them.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
