"""One process a run directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.errors import RunDirectoryBusy


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold `run_dir` for this process; the system lets go of it however the process ends. Raises `RunDirectoryBusy`."""
    with (run_dir / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise RunDirectoryBusy(run_dir, stream.read().strip()) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
