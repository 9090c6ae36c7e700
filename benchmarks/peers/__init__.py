"""Other runtimes, each on one thread and with the settings that its makers recommend for latency. One file a peer."""

from __future__ import annotations

from benchmarks.errors import UnknownName
from benchmarks.peers.base import Peer, Session
from benchmarks.peers.inductor import Inductor
from benchmarks.peers.litert import LiteRT
from benchmarks.peers.ncnn import Ncnn
from benchmarks.peers.onnx_runtime import OnnxRuntime
from benchmarks.peers.openvino import OpenVino
from benchmarks.peers.torch_eager import TorchEager

__all__ = ["PEERS", "Peer", "Session", "find_peers"]

PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (OnnxRuntime(), OpenVino(), Ncnn(), LiteRT(), Inductor(), TorchEager())
}


def find_peers(names: list[str]) -> list[Peer]:
    """The peers of these names.

    Raises:
        UnknownName: if there is none of a name.
    """
    for name in names:
        if name not in PEERS:
            raise UnknownName(f"there is no peer {name!r}; known: {', '.join(PEERS)}")
    return [PEERS[name] for name in names]
