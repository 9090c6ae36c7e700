"""Official files from the network, checked before they take their name."""

import hashlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from training.errors import DataCorrupt
from training.files import replacing

TIMEOUT_SECONDS = 30
CHUNK = 1 << 18


class DownloadFailed(Exception):
    """Nobody answered, or the answer was not the file."""


@dataclass(frozen=True)
class Remote:
    """A file on the network and the MD5 that its publisher gives for it."""

    url: str
    md5: str

    def download(self, path: Path) -> None:
        """Fetch the file to `path`, with a progress bar on a terminal.

        Raises:
            DownloadFailed: it cannot be had, in words.
            DataCorrupt: it arrived, but with another checksum; nothing is kept.
        """
        try:
            with urlopen(self.url, timeout=TIMEOUT_SECONDS) as answer, replacing(path) as temporary:
                found = _receive(answer, temporary, path.name)
                if found != self.md5:
                    raise DataCorrupt(path, f"what {self.url} sent has MD5 {found}, the official file {self.md5}")
        except HTTPError as error:
            raise DownloadFailed(f"the server answered {error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            raise DownloadFailed(str(getattr(error, "reason", error))) from error


def _receive(answer: Any, path: Path, label: str) -> str:
    """Write an answer's body to `path`; its MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    length = answer.headers.get("Content-Length")
    with path.open("wb") as file, _bar() as bar:
        task = bar.add_task(label, total=None if length is None else int(length))
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            bar.advance(task, len(chunk))
    return digest.hexdigest()


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
