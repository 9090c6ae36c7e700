from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

from training.memory import give_back_memory


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_freed_memory_between_tensors_in_use_goes_back_to_the_system() -> None:
    tensors = [torch.ones(15_000) for _ in range(2_000)]
    used = tensors[::20]
    full = resident_mb()
    del tensors
    kept = resident_mb()
    give_back_memory()
    assert full - resident_mb() > 80
    assert kept - resident_mb() > 40
    assert all(bool((tensor == 1).all()) for tensor in used)
