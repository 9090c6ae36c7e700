"""Compiled networks: calling, timing, saving and loading them. Needs numpy only, not torch."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler import sanitizer
from compiler.errors import CannotRunHere, InputMismatch, ThreadsUnavailable
from compiler.target import Target, local_target

Floats = npt.NDArray[np.float64]

ALIGNMENT = 64
LARGEST_INTEGER = 2**24
"""Whole numbers are handed over as float32, which holds all of them up to this one."""


@dataclass(frozen=True)
class Timing:
    """Times of one network, on one pinned thread or on a team that the system places.

    Attributes:
        total_ms: [runs], whole network, without time stamps between kernels.
        kernel_us: [runs, kernels], with a time stamp after each kernel; runs of the two kinds alternate.
        cpu_ms: [runs], CPU time of the thread in the runs without time stamps: what is missing to `total_ms` went to
            somebody else.
    """

    total_ms: Floats
    kernel_us: Floats
    cpu_ms: Floats

    @property
    def median_ms(self) -> float:
        """Median time of the whole network."""
        return float(np.median(self.total_ms))

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        low, high = np.quantile(self.total_ms, [0.25, 0.75])
        return float((high - low) / self.median_ms)

    @property
    def runs(self) -> int:
        """Number of runs timed."""
        return len(self.total_ms)

    def __str__(self) -> str:
        return f"{self.median_ms:.4f} ms (interquartile range {100 * self.spread:.1f} %, {self.runs} runs)"


@dataclass(frozen=True)
class Signature:
    """Shapes of the user's arrays without the batch dimension, types of the inputs, and what the driver needs.

    `threads` is the most that share a kernel; with one there is no team.
    """

    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]
    arena: int
    kernels: int
    threads: int = 1


class Program:
    """A driver with its constants, arena and team of threads, loaded if it is for this processor. One run at a time.

    The team starts at the first run, sleeps when it is not needed, and ends with the program.

    Raises:
        CannotRunHere: if the system refuses to load the library.
    """

    def __init__(self, library: Path, constants: npt.NDArray[np.uint8], signature: Signature, target: Target) -> None:
        self.library = library
        self.signature = signature
        self.target = target
        self.constants = constants if constants.ctypes.data % ALIGNMENT == 0 else _aligned_copy(constants)
        self._arena = aligned(signature.arena)
        self._run: Any = None
        self._team: tuple[int, ...] = ()
        if target.runs_here:
            loaded = _load(library)
            shared = signature.threads > 1
            self._run = _function(loaded, library, "npas_run_shared" if shared else "npas_run")
            self._run.restype = ctypes.c_int if shared else None
            self._run.argtypes = [ctypes.c_void_p] * (6 if shared else 5)
            self._team = (_new_team(self, loaded),) if shared else ()

    def run(
        self,
        inputs: Sequence[npt.NDArray[np.float32]],
        outputs: Sequence[npt.NDArray[np.float32]],
        stamps: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        """Run on one image: contiguous float32 arrays of the signature's shapes.

        Raises:
            ThreadsUnavailable: if the system refuses to start the team.
        """
        call = self.bind(inputs, outputs, stamps)
        call()

    def bind(
        self,
        inputs: Sequence[npt.NDArray[np.float32]],
        outputs: Sequence[npt.NDArray[np.float32]],
        stamps: npt.NDArray[np.uint64] | None = None,
    ) -> Any:
        """A function without arguments that runs on these arrays, with as little overhead as there can be.

        Raises:
            CannotRunHere: if the code is for another processor.
        """
        if self._run is None:
            require_here(self.target)
        ins = (ctypes.c_void_p * len(inputs))(*(array.ctypes.data for array in inputs))
        outs = (ctypes.c_void_p * len(outputs))(*(array.ctypes.data for array in outputs))
        arena, constants = self._arena.ctypes.data, self.constants.ctypes.data
        times = None if stamps is None else stamps.ctypes.data
        run, team, threads = self._run, self._team, self.signature.threads

        def call() -> None:
            error = run(ins, outs, arena, constants, times, *team)
            if error:
                raise ThreadsUnavailable(
                    f"{threads - 1} threads could not be started: {os.strerror(error)}; end other threads and call "
                    "again, or compile with threads=1"
                )

        call.__dict__["keep"] = (self, inputs, outputs, stamps, ins, outs)
        return call


def require_here(target: Target) -> None:
    """Raise `CannotRunHere` if this processor cannot run code for `target`."""
    if not target.runs_here:
        raise CannotRunHere(
            f"code for {target.name} cannot run in this process: this processor is {local_target().name}. "
            "Call build_standalone(directory) on the compiled network, copy the directory to the device, and start the "
            "program that is made there."
        )


def _load(library: Path) -> ctypes.CDLL:
    """A driver.

    The dynamic linker takes a path that it knows for the library that it loaded from there, though another file may
    have taken its place. So each file gets a path of its own, spelled by its inode in "/" and "/.".
    """
    try:
        spelled = "".join("/." if bit == "1" else "/" for bit in f"{library.stat().st_ino:b}")
        return ctypes.CDLL(f"{library.parent}{spelled}/{library.name}")
    except OSError as error:
        raise CannotRunHere(
            f"{library} cannot be loaded: {error}. It was built on another system: compile the network on this one, or "
            "build its program with build_standalone."
        ) from error


def _function(loaded: ctypes.CDLL, library: Path, name: str) -> Any:
    try:
        return getattr(loaded, name)
    except AttributeError as error:
        raise CannotRunHere(
            f"{library} has no function {name}, which every compiled network has: it is something else, or was made by "
            "another version. Compile the network again."
        ) from error


def _new_team(program: Program, library: ctypes.CDLL) -> int:
    """Address of a team that ends when `program` does.

    When the interpreter ends, threads end with it: some other thread may still be running the network.
    """
    library.npas_team_new.restype = ctypes.c_void_p
    library.npas_team_free.restype, library.npas_team_free.argtypes = None, [ctypes.c_void_p]
    address: int | None = library.npas_team_new()
    if address is None:
        raise ThreadsUnavailable("there is no memory for a team of threads")
    weakref.finalize(program, library.npas_team_free, address).atexit = False
    return address


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """`size` zero bytes that start a cache line."""
    if sanitizer.enabled():
        return sanitizer.guarded(size, ALIGNMENT)
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def _aligned_copy(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    copied = aligned(array.size)
    copied[:] = array
    return copied


def check_inputs(inputs: Sequence[Any], signature: Signature) -> list[npt.NDArray[np.float32]]:
    """The user's arrays or tensors as contiguous float32 arrays [N, ...].

    Raises:
        InputMismatch: saying what was given and what is expected.
    """
    shapes, types = signature.inputs, signature.types
    wanted = ", ".join(f"{t} [{', '.join(map(str, ('N', *shape)))}]" for t, shape in zip(types, shapes, strict=True))
    if len(inputs) != len(shapes):
        raise InputMismatch(f"{len(inputs)} inputs were given; this network takes {len(shapes)}: {wanted}")
    arrays = []
    for index, (value, shape) in enumerate(zip(inputs, shapes, strict=True)):
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            raise InputMismatch(f"input {index} is {type(value).__name__}; a tensor or numpy array is expected")
        given = tuple(value.shape)
        if str(value.dtype).split(".")[-1] != types[index] or given[1:] != shape or not given or given[0] < 1:
            raise InputMismatch(
                f"input {index} is {value.dtype} of shape {given}; this network was compiled for {wanted}"
            )
        device = getattr(value, "device", None)
        if device is not None and getattr(device, "type", "cpu") != "cpu":
            raise InputMismatch(f"input {index} is on {device}; a compiled network runs on the CPU: call .cpu() first")
        if not isinstance(value, np.ndarray):
            value = value.detach().numpy()
        if types[index] != "float32":
            farthest = max(int(value.max()), int(value.min()), key=abs)
            if abs(farthest) > LARGEST_INTEGER:
                raise InputMismatch(
                    f"input {index} holds {farthest}; a compiled network reads whole numbers up to {LARGEST_INTEGER} "
                    "exactly, and no larger ones"
                )
        arrays.append(np.ascontiguousarray(value, np.float32))
    if len({len(array) for array in arrays}) > 1:
        raise InputMismatch(f"the inputs have different batch sizes: {[len(array) for array in arrays]}")
    return arrays


def like(example: Any, array: npt.NDArray[np.float32]) -> Any:
    """`array` as the kind of value that `example` is: torch tensors for torch tensors."""
    return array if isinstance(example, np.ndarray) else sys.modules["torch"].from_numpy(array)


@contextmanager
def pinned() -> Iterator[None]:
    """Keep this thread on one processor, where the system allows it, and those that it starts meanwhile."""
    if not hasattr(os, "sched_getaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def time_program(program: Program, seconds: float, min_runs: int) -> Timing:
    """Time a program on random inputs; runs with and without time stamps between the kernels alternate.

    All inputs lie in the same memory: a network made of kernels to be timed has one for each of them, and what they
    displaced in the caches would be missing there when the kernels need it. The first tenth of the time is thrown
    away. One thread is pinned; a team is not, since the system already keeps
    threads that never sleep apart.
    """
    generator = np.random.default_rng(0)
    signature = program.signature
    values = generator.standard_normal(max(map(math.prod, signature.inputs), default=0), np.float32)
    inputs = [values[: math.prod(shape)].reshape(shape) for shape in signature.inputs]
    outputs = [np.empty(shape, np.float32) for shape in signature.outputs]
    stamps = np.zeros(signature.kernels + 1, np.uint64)
    plain, stamped = program.bind(inputs, outputs), program.bind(inputs, outputs, stamps)
    totals: list[int] = []
    spent: list[int] = []
    kernels: list[npt.NDArray[np.uint64]] = []
    with pinned() if signature.threads == 1 else nullcontext():
        warm = time.perf_counter() + seconds / 10
        while time.perf_counter() < warm:
            plain()
            stamped()
        end = time.perf_counter() + seconds
        while len(totals) < min_runs or time.perf_counter() < end:
            cpu, begin = time.thread_time_ns(), time.perf_counter_ns()
            plain()
            totals.append(time.perf_counter_ns() - begin)
            spent.append(time.thread_time_ns() - cpu)
            stamped()
            kernels.append(np.diff(stamps))
    return Timing(np.array(totals) / 1e6, np.array(kernels, np.float64) / 1e3, np.array(spent) / 1e6)
