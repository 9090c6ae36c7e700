"""What travels to the machine of a device and back; here that is this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from compiler import KernelSpec, compile_model, load_compiled
from latency_model import load_device
from search.cluster import LocalCluster
from search.cluster.parcel import pack, pack_compiled, unpacked
from search.cluster.runner import device_on


class Counting(LocalCluster):
    """Notes what is asked of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def on_device(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.asked.append(function.__name__)
        return super().on_device(function, *arguments)


def test_a_device_of_a_cluster_gives_what_the_device_gives() -> None:
    cluster = Counting()
    there, here = device_on(cluster, {"name": "local"}), load_device("local")
    assert (there.name, there.target, there.environment()) == (here.name, here.target, here.environment())
    clocks = there.runner.clock_mhz(), here.runner.clock_mhz()
    assert all(map(math.isnan, clocks)) or all(clock > 0 for clock in clocks)
    specs = [KernelSpec("conv", 8, 8, 8, 8, (3, 3), padding=(1, 1)), KernelSpec("conv", 8, 16, 8, 8)]
    measured = there.runner.measure(specs, there.target, seconds=0.02, seed=0)
    assert measured.kernel_us.shape[1] == 2
    assert (measured.kernel_us > 0).all()
    compiled = compile_model(nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 8, 8))
    assert there.runner.time(compiled, seconds=0.02).median_ms > 0
    assert {"_described", "_environment", "_clock_mhz", "_measure", "_time"} == set(cluster.asked)


def test_a_compiled_network_is_its_files(tmp_path: Path) -> None:
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    compiled = compile_model(nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 8, 8))
    compiled.save(tmp_path)
    (tmp_path / "unfinished").mkdir()
    parcel = pack_compiled(compiled)
    assert set(parcel) == set(pack(tmp_path)) >= {"kernels.c", "libmodel.so", "manifest.json"}
    with unpacked(parcel) as folder:
        np.testing.assert_array_equal(load_compiled(folder)(image), compiled(image))
    assert not folder.exists()
