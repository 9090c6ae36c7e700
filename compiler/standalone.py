"""A compiled network as a C project: what runs on a phone or a board, where there is no Python."""

from __future__ import annotations

import json
import math
import shlex
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from compiler.artifact import writing
from compiler.errors import DirectoryUnwritable
from compiler.listing import Listing
from compiler.runtime import Program
from compiler.toolchain import build_flags

_HEADER = """\
/* What main.c must know of the network in kernels.c; npas wrote it. */
#define TARGET {target}
#define INPUT_TENSORS {inputs}
#define OUTPUT_TENSORS {outputs}
#define STEPS {steps}
#define THREADS {threads}
enum {{ INPUTS = {input_count}, OUTPUTS = {output_count}, KERNELS = {kernels} }};
#define ARENA_BYTES {arena}L
#define WEIGHT_BYTES {weights}L
#define WEIGHT_CRC32 {crc}u
"""

_FIRST_LINE = "# A network compiled by npas: `make`, then `./network -h`. Another compiler: `make CC=...`."
_MAKEFILE = """\
{first_line}
ifeq ($(origin CC),default)
CC := {compiler}
endif
CFLAGS := {flags}
LDFLAGS := {linking}
LDLIBS := -lm -lpthread

network: main.c network.h kernels.c
	$(CC) $(CFLAGS) $(LDFLAGS) main.c kernels.c $(LDLIBS) -o $@

.PHONY: clean
clean:
	rm -f network
"""


def write_project(program: Program, listing: Listing, folder: Path) -> None:
    """Write `kernels.c`, `main.c`, `network.h`, `weights.bin` and a `Makefile` to `folder`.

    The program of a target of another processor family is linked statically, so that it needs nothing of the system
    that it is copied to.

    Raises:
        DirectoryUnwritable: if the system refuses, or `folder` holds the Makefile of something else.
    """
    makefile = folder / "Makefile"
    if makefile.is_file() and not makefile.read_text(errors="replace").startswith(_FIRST_LINE):
        raise DirectoryUnwritable(f"{makefile} is not npas's, and would be overwritten; choose another directory")
    with writing(folder) as fresh:
        (fresh / "kernels.c").write_text(listing.source)
        (fresh / "main.c").write_bytes(Path(__file__).with_name("standalone_main.c").read_bytes())
        (fresh / "network.h").write_text(_header(program, listing))
        (fresh / "weights.bin").write_bytes(program.constants.data)
        (fresh / "Makefile").write_text(
            _MAKEFILE.format(
                first_line=_FIRST_LINE,
                compiler=listing.command,
                flags=shlex.join(build_flags(program.target)),
                linking="-static" if program.target.is_foreign else "",
            )
        )


def _header(program: Program, listing: Listing) -> str:
    signature = program.signature
    return _HEADER.format(
        target=json.dumps(program.target.name),
        inputs=_tensors("input", signature.inputs),
        outputs=_tensors("output", signature.outputs),
        steps=_rows((json.dumps(row["layer"]), json.dumps(row["code"])) for row in listing.kernels),
        input_count=len(signature.inputs),
        output_count=len(signature.outputs),
        threads=signature.threads,
        kernels=signature.kernels,
        arena=signature.arena,
        weights=len(program.constants),
        crc=zlib.crc32(program.constants.data),
    )


def _tensors(kind: str, shapes: Sequence[tuple[int, ...]]) -> str:
    return _rows(
        (json.dumps(f"{kind} {index}"), json.dumps(" x ".join(map(str, shape))), str(math.prod(shape)))
        for index, shape in enumerate(shapes)
    )


def _rows(rows: Iterable[Sequence[str]]) -> str:
    """C initialiser of an array of structures."""
    return "{" + ", ".join("{" + ", ".join(row) + "}" for row in rows) + "}"
