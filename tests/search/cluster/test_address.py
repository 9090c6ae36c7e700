from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from search.cluster.address import require_cluster
from search.errors import ClusterNotFound, InvalidCluster

Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """An address that answers every caller with the same bytes, and then is silent."""
    listening = socket.create_server(("127.0.0.1", 0))
    calls: list[socket.socket] = []

    def answer(said: bytes) -> None:
        call, _ = listening.accept()
        calls.append(call)
        call.sendall(said)

    def start(said: bytes) -> str:
        threading.Thread(target=answer, args=(said,), daemon=True).start()
        return f"127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for call in [listening, *calls]:
        call.close()


def test_a_server_that_opens_as_grpc_does_is_taken_for_a_cluster(serve: Serve) -> None:
    settings = bytes((0, 0, 6, 4, 0, 0, 0, 0, 0))
    require_cluster(serve(settings + bytes(6)))


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_something_else_is_no_cluster(serve: Serve, said: bytes) -> None:
    with pytest.raises(ClusterNotFound, match="something else"):
        require_cluster(serve(said))


def test_silence_ends_the_wait(serve: Serve) -> None:
    start = time.monotonic()
    with pytest.raises(ClusterNotFound, match=r"nothing answers.*ray start --head"):
        require_cluster(serve(b""), timeout_s=0.2)
    assert time.monotonic() - start < 60


def test_a_port_that_nobody_listens_at_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ClusterNotFound, match=address):
        require_cluster(address)


def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(ClusterNotFound, match=r"nowhere\.invalid"):
        require_cluster("nowhere.invalid:6379")


@pytest.mark.parametrize("address", ["", "here", "head:", ":6379", "ray://head:10001", "head:port"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidCluster, match="host:port"):
        require_cluster(address)
