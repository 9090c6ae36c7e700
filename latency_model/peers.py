"""Other runtimes beside ours, under the same conditions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd

from compiler import CompiledModel, pinned
from latency_model.errors import PeerFailed
from latency_model.runner import Floats

WARM_SHARE = 0.1
"""Share of the time that is thrown away at the start."""
WARM_RUNS = 3
"""Runs at the start of each turn that find the caches full of another network: with one of them thrown away instead of
three, the quartiles of ResNet-56 lay 40 % apart, and its median was 18 % higher."""
RUNS_A_TURN = 5
"""Runs of a turn that count."""
OURS = "npas"


def onnx_session(path: str | os.PathLike[str]) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session that computes on the calling thread alone, with all of its graph optimisations.

    Raises:
        PeerFailed: if ONNX Runtime cannot load the file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise PeerFailed(f"ONNX Runtime cannot load {path}: {error}") from error


def onnx_peer(path: str | os.PathLike[str], *inputs: npt.NDArray[Any]) -> Callable[[], None]:
    """A function that runs the file in ONNX Runtime on `inputs`, bound beforehand so that nothing is copied a run.

    Raises:
        PeerFailed: if ONNX Runtime cannot load the file or run it on these inputs.
    """
    session = onnx_session(path)
    binding = session.io_binding()
    try:
        for entry, array in zip(session.get_inputs(), inputs, strict=True):
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            binding.bind_ortvalue_input(entry.name, value)
        for entry in session.get_outputs():
            binding.bind_output(entry.name)
        session.run_with_iobinding(binding)
    except Exception as error:
        raise PeerFailed(f"ONNX Runtime does not run {path} on these inputs: {error}") from error
    return lambda: session.run_with_iobinding(binding)


def compare_runtimes(
    compiled: CompiledModel,
    peers: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 2.0,
    min_rounds: int = 10,
) -> pd.DataFrame:
    """Time our network and other runtimes side by side on one pinned thread.

    In each round every runtime has one turn of a few runs. The order is rotated by one from round to round, so that
    none always follows the same neighbour and drift of the machine meets all alike. The first runs of a turn, which
    find the caches full of another network, and the first tenth of the time are thrown away.

    Args:
        compiled: our network, listed as `npas`.
        peers: name to a function that runs the peer once.
        seconds: time to spend in all.
        min_rounds: rounds that are kept at least.

    Returns:
        one row a runtime, ours first: `runtime`, `measured_ms` (median), `spread` (relative interquartile range),
        `runs`, and `ratio`: its median over ours.

    Raises:
        PeerFailed: naming the runtime that raised an error.
    """
    if OURS in peers:
        raise PeerFailed(f"a peer cannot be called {OURS!r}: that is our own row; choose another name")
    runtimes: dict[str, Callable[[], object]] = {OURS: compiled.run_once(), **peers}
    with pinned():
        for _ in _rounds(runtimes, WARM_SHARE * seconds, at_least=1):
            pass
        kept = list(_rounds(runtimes, (1 - WARM_SHARE) * seconds, at_least=min_rounds))
    times = {name: np.concatenate([one[name] for one in kept]) / 1e6 for name in runtimes}
    ours = float(np.median(times[OURS]))
    return pd.DataFrame([_row(name, ms, ours) for name, ms in times.items()])


def _rounds(
    runtimes: Mapping[str, Callable[[], object]], seconds: float, *, at_least: int
) -> Iterator[dict[str, list[int]]]:
    """Nanoseconds of each runtime's counted runs, round after round, until time and `at_least` rounds are spent."""
    names = list(runtimes)
    end, done = time.perf_counter() + seconds, 0
    while done < at_least or time.perf_counter() < end:
        first = done % len(names)
        yield {name: _turn(name, runtimes[name]) for name in names[first:] + names[:first]}
        done += 1


def _turn(name: str, run: Callable[[], object]) -> list[int]:
    stamps = []
    try:
        for _ in range(WARM_RUNS):
            run()
        for _ in range(RUNS_A_TURN):
            stamps.append(time.perf_counter_ns())
            run()
        stamps.append(time.perf_counter_ns())
    except Exception as error:
        raise PeerFailed(f"the runtime {name!r} failed while it was timed: {error!r}") from error
    return [after - before for before, after in pairwise(stamps)]


def _row(name: str, ms: Floats, ours: float) -> dict[str, object]:
    low, median, high = (float(value) for value in np.quantile(ms, [0.25, 0.5, 0.75]))
    return {
        "runtime": name,
        "measured_ms": median,
        "spread": (high - low) / median,
        "runs": len(ms),
        "ratio": median / ours,
    }
