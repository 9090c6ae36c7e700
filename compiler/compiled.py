"""`CompiledModel`: a network as a native function, with the table of its kernels. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.artifact import read, write
from compiler.listing import Listing
from compiler.runtime import Program, Timing, check_inputs, like, time_program

if TYPE_CHECKING:
    import pandas

    from compiler.spec import KernelSpec


class CompiledModel:
    """A compiled network.

    Call it with what the network was called with: torch tensors give torch tensors, numpy arrays numpy arrays. Any
    batch size is served, one image after the other. One call at a time: the arena is shared.
    """

    def __init__(self, program: Program, listing: Listing) -> None:
        self.program = program
        self.listing = listing
        self._timing: Timing | None = None

    def __call__(self, *inputs: Any) -> Any:
        """Outputs for `inputs`; one output is returned bare, several as a tuple.

        Raises:
            InputMismatch: on another number, shape, type or device of inputs.
            CannotRunHere: if it was compiled for another processor.
            ThreadsUnavailable: if the system refuses to start the network's threads.
        """
        signature = self.program.signature
        arrays = check_inputs(inputs, signature)
        outputs = [np.empty((len(arrays[0]), *shape), np.float32) for shape in signature.outputs]
        for index in range(len(arrays[0])):
            one = slice(index, index + 1)
            self.program.run([array[one] for array in arrays], [output[one] for output in outputs])
        results = tuple(like(inputs[0], output) for output in outputs)
        return results[0] if len(results) == 1 else results

    def time(self, seconds: float = 0.5, min_runs: int = 30) -> Timing:
        """Time the network on random inputs at batch 1 for `seconds` and at least `min_runs`.

        One thread is pinned to a processor; several are placed by the system.

        Raises:
            CannotRunHere: if it was compiled for another processor.
            ThreadsUnavailable: if the system refuses to start the network's threads.
        """
        self._timing = time_program(self.program, seconds, min_runs)
        return self._timing

    def run_once(self) -> Any:
        """A function without arguments that runs the network on one random image, for timing beside others."""
        generator = np.random.default_rng(0)
        signature = self.program.signature
        inputs = [generator.standard_normal(shape, np.float32) for shape in signature.inputs]
        return self.program.bind(inputs, [np.empty(shape, np.float32) for shape in signature.outputs])

    @property
    def specs(self) -> tuple[KernelSpec, ...]:
        """The kernels in execution order."""
        from compiler.spec import KernelSpec

        return tuple(KernelSpec.from_dict(row) for row in self.listing.kernels)

    @property
    def kernels(self) -> pandas.DataFrame:
        """A kernel a row: layer, spec, form, tile, why; `measured_us` is the median of the last `time()`, else NaN."""
        import pandas

        table = pandas.DataFrame([dict(row) for row in self.listing.kernels])
        timed = self._timing
        table["measured_us"] = np.nan if timed is None else np.median(timed.kernel_us, axis=0)
        return table

    @property
    def arena_bytes(self) -> int:
        """Bytes of activations: the peak memory of a run beside the weights."""
        return self.program.signature.arena

    def save(self, directory: str | Path) -> None:
        """Write `kernels.c`, `libmodel.so`, `constants.safetensors` and, last, `manifest.json` with their checksums.

        Raises:
            DirectoryUnwritable: if the system refuses, e.g. because the disk is full.
        """
        write(self.program, self.listing, Path(directory))

    def build_standalone(self, directory: str | Path) -> None:
        """Write the network as a C project that needs nothing but a C compiler: `make` gives the program `network`.

        The program reads raw float32 files (whole numbers too), writes its outputs likewise and prints what each layer
        takes; `./network -h` tells more. It has to be copied to the device together with `weights.bin`.

        Raises:
            DirectoryUnwritable: if the system refuses, or the directory holds the Makefile of something else.
        """
        from compiler.standalone import write_project

        write_project(self.program, self.listing, Path(directory))


def load_compiled(directory: str | Path) -> CompiledModel:
    """The network saved in `directory`, in a process that needs neither torch nor a compiler.

    One that was compiled for another processor is loaded too, and can do all but run.

    Raises:
        ArtifactCorrupt: if a file is missing, truncated or altered, or of another version of the format.
        CannotRunHere: if the system refuses to load a library for this processor.
    """
    return CompiledModel(*read(Path(directory)))
