"""What a peer has to provide."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn


@dataclass(frozen=True)
class Session:
    """A network loaded into a runtime.

    Attributes:
        run: computes one image, without arguments; its result is left in the runtime.
        output: runs once and returns the result as torch orders it.
    """

    run: Callable[[], object]
    output: Callable[[], npt.NDArray[np.float32]]


class Peer(ABC):
    """A runtime.

    Attributes:
        name: in tables and on the command line.
        title: for people.
        winograd: whether it computes 3x3 convolutions of stride 1 by Winograd's method.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    winograd: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, model: nn.Module, image: Tensor, folder: Path) -> Session:
        """Load `model` for images of the shape of `image` [1, C, H, W], on one thread.

        Args:
            folder: an empty folder for the runtime's files.

        Raises:
            PeerUnavailable: if the runtime is not installed or refuses the network.
        """


@contextmanager
def silent() -> Iterator[None]:
    """Without what native code writes to the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in enumerate(kept, 1):
            os.dup2(saved, number)
            os.close(saved)
        os.close(nowhere)
