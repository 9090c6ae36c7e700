from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from ray.core.generated.gcs_service_pb2 import GetClusterIdReply, GetClusterIdRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceServicer, add_NodeInfoGcsServiceServicer_to_server

from search.cluster.address import cluster_id
from search.errors import ClusterNotFound, ClusterRefused, InvalidCluster

Serve = Callable[[bytes], str]


class Head(NodeInfoGcsServiceServicer):
    """Answers as the head of a cluster does, if the caller has its token."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def GetClusterId(self, request: GetClusterIdRequest, context: grpc.ServicerContext) -> GetClusterIdReply:  # noqa: N802
        told = dict(context.invocation_metadata()).get("authorization", "")
        if self.token is not None and not told.endswith(self.token):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return GetClusterIdReply(cluster_id=b"this one")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """An address that answers every caller with the same bytes, and then is silent."""
    listening = socket.create_server(("127.0.0.1", 0))
    calls: list[socket.socket] = []

    def answer(said: bytes) -> None:
        while True:
            try:
                call, _ = listening.accept()
                calls.append(call)
                call.sendall(said)
            except OSError:
                return

    def start(said: bytes) -> str:
        threading.Thread(target=answer, args=(said,), daemon=True).start()
        return f"127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for call in [listening, *calls]:
        call.close()


@pytest.fixture
def head() -> Iterator[Callable[[str | None], str]]:
    server = grpc.server(ThreadPoolExecutor(1))

    def start(token: str | None) -> str:
        add_NodeInfoGcsServiceServicer_to_server(Head(token), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return f"127.0.0.1:{port}"

    yield start
    server.stop(None)


def test_a_head_tells_which_cluster_it_has(head: Callable[[str | None], str]) -> None:
    assert cluster_id(head(None)) == b"this one"


def test_a_cluster_that_asks_for_a_token_is_told_from_none(
    head: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ClusterRefused, match=r"ray get-auth-token.*RAY_AUTH_MODE=token"):
        cluster_id(head("secret"))


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_something_else_is_no_cluster(serve: Serve, said: bytes) -> None:
    with pytest.raises(ClusterNotFound, match="no head of one answers"):
        cluster_id(serve(said))


def test_silence_ends_the_wait(serve: Serve) -> None:
    start = time.monotonic()
    with pytest.raises(ClusterNotFound, match=r"no head of one answers.*ray start --head"):
        cluster_id(serve(b""), timeout_s=0.2)
    assert time.monotonic() - start < 60


def test_a_port_that_nobody_listens_at_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ClusterNotFound, match=address):
        cluster_id(address)


def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(ClusterNotFound, match=r"nowhere\.invalid"):
        cluster_id("nowhere.invalid:6379")


@pytest.mark.parametrize("address", ["", "here", "head:", ":6379", "ray://head:10001", "head:port"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidCluster, match="host:port"):
        cluster_id(address)
