"""Networks and other runtimes timed in turn where the device is; what travels there is files."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler import load_compiled
from latency_model import compare_runtimes, onnx_peer
from search.cluster.parcel import Parcel, unpacked

ONNX = "onnxruntime "
"""Before the name of a network: ONNX Runtime with its file."""
Records = list[dict[Hashable, Any]]


def compare(
    networks: Mapping[str, Parcel], image: npt.NDArray[np.float32] | None, seconds: float
) -> tuple[Records, dict[str, Records]]:
    """Time all networks in turn, and ONNX Runtime with the file `model.onnx` of each if there is an `image`.

    Args:
        networks: files of compiled networks by name.
        image: [1, C, H, W].
        seconds: time to spend in all.

    Returns:
        rows of `compare_runtimes`, `runtime` being the name of a network, and rows of each network's kernels with
        the times of a run of its own (none without `image`).
    """
    with ExitStack() as stack:
        folders = {name: stack.enter_context(unpacked(parcel)) for name, parcel in networks.items()}
        compiled = {name: load_compiled(folder) for name, folder in folders.items()}
        first, *others = compiled
        peers = {name: compiled[name].run_once() for name in others}
        if image is not None:
            peers |= {ONNX + name: onnx_peer(folder / "model.onnx", image) for name, folder in folders.items()}
        table = compare_runtimes(compiled[first], peers, seconds=seconds)
        table.loc[0, "runtime"] = first
        kernels: dict[str, Records] = {}
        if image is not None:
            for name, network in compiled.items():
                network.time()
                kernels[name] = network.kernels.to_dict("records")
    return table.to_dict("records"), kernels
