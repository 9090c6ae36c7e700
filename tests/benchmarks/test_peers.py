"""Every peer that is installed computes what torch computes; the others say why they are not measured."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.competitors import load_peers
from benchmarks.errors import PeerUnavailable, UnknownName
from benchmarks.measure import relative_error
from benchmarks.peers import PEERS, Peer, find_peers
from benchmarks.peers.base import Session
from benchmarks.zoo import make_network

CASES = [(name, "cifar_resnet20") for name in PEERS if name != "torch_inductor"]  # which compiles for a minute
CASES += [(name, "mobilenet_v3_large") for name in ("ncnn", "litert_xnnpack")]  # which take it through our own writers


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("name", "network"), CASES)
def test_peers_match_torch(name, network, tmp_path):
    model, image = make_network(network, size=64)
    with torch.no_grad():
        expected = model(image).numpy()
    try:
        session = PEERS[name].prepare(model, image, tmp_path)
    except PeerUnavailable as error:
        if "is not installed" not in str(error):
            raise
        pytest.skip(str(error))
    session.run()
    assert relative_error(session.output(), expected) <= 1e-4


class Absent(Peer):
    name = "absent"
    title = "Absent"

    def prepare(self, model, image, folder: Path) -> Session:
        raise PeerUnavailable("absent is not installed")


class Wrong(Peer):
    name = "wrong"
    title = "Wrong"

    def prepare(self, model, image, folder: Path) -> Session:
        return Session(lambda: None, lambda: np.zeros((1, 10), np.float32))


def test_absent_and_wrong_peers_are_not_measured_and_the_reason_is_kept():
    model, image = make_network("cifar_resnet20")
    loaded, refused = load_peers([Absent(), Wrong(), PEERS["torch_eager"]], model, image)
    assert list(loaded) == ["torch_eager"]
    assert refused["absent"] == "absent is not installed"
    assert "differs from torch by 1.0e+00" in refused["wrong"]


def test_unknown_peers_are_refused():
    with pytest.raises(UnknownName, match="onnxruntime"):
        find_peers(["tvm"])
