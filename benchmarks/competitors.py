"""Networks loaded into runtimes, checked against torch, ready to be timed beside each other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.errors import PeerUnavailable, WrongResult
from benchmarks.measure import Run, Times, median, relative_error, spread
from benchmarks.peers import Peer
from compiler import CompiledModel, compile_model

OURS = "npas"
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Competitor:
    """A network in a runtime.

    Attributes:
        run: computes one image.
        error: largest difference from torch, relative to the largest output.
        compiled: our network, None for a peer.
    """

    run: Run
    error: float
    compiled: CompiledModel | None = None


def timed(competitor: Competitor, times: Times) -> dict[str, float]:
    """Columns of every table of whole networks."""
    return {
        "measured_ms": median(times.cpu_us) / 1e3,
        "spread": spread(times.cpu_us),
        "wall_ms": median(times.wall_us) / 1e3,
        "rounds": len(times.cpu_us),
        "error": competitor.error,
    }


def expected(model: nn.Module, image: Tensor) -> npt.NDArray[np.float32]:
    """What torch computes."""
    with torch.no_grad():
        return np.asarray(model(image).numpy(), np.float32)


def ours(model: nn.Module, image: Tensor) -> Competitor:
    """The network compiled by npas.

    Raises:
        WrongResult: if it differs from torch by more than 1e-4 of the largest output.
    """
    compiled = compile_model(model, image)
    error = relative_error(compiled(image).numpy(), expected(model, image))
    _require_right(OURS, error)
    return Competitor(compiled.run_once(), error, compiled)


def theirs(peer: Peer, model: nn.Module, image: Tensor, folder: Path) -> Competitor:
    """The network loaded by a peer.

    Raises:
        PeerUnavailable: if the peer is not installed or refuses the network.
        WrongResult: if it differs from torch by more than 1e-4 of the largest output.
    """
    session = peer.prepare(model, image, folder)
    error = relative_error(session.output(), expected(model, image))
    _require_right(peer.name, error)
    return Competitor(session.run, error)


def _require_right(name: str, error: float) -> None:
    if not error <= TOLERANCE:
        raise WrongResult(f"{name} differs from torch by {error:.1e} of the largest output; {TOLERANCE:.0e} is allowed")


def load_peers(peers: Iterable[Peer], model: nn.Module, image: Tensor) -> tuple[dict[str, Competitor], dict[str, str]]:
    """All peers that run the network, and for the others the reason why they do not."""
    loaded: dict[str, Competitor] = {}
    refused: dict[str, str] = {}
    for peer in peers:
        try:
            with tempfile.TemporaryDirectory() as folder:
                loaded[peer.name] = theirs(peer, model, image, Path(folder))
        except (PeerUnavailable, WrongResult) as error:
            refused[peer.name] = str(error)
    return loaded, refused
