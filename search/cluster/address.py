"""Is there a cluster at an address? Ray itself waits for two minutes and then ends the process."""

from __future__ import annotations

import re
import socket

from search.errors import ClusterNotFound, InvalidCluster

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client opens a connection of HTTP/2, with empty settings (RFC 9113, section 3.4)."""
_SETTINGS = 4


def require_cluster(address: str, timeout_s: float = 5.0) -> None:
    """Knock at the address of a cluster's head.

    Args:
        address: `host:port`.
        timeout_s: seconds to wait for an answer.

    Raises:
        InvalidCluster: it is no `host:port`.
        ClusterNotFound: nothing answers there, or something that does not speak as Ray's head does (gRPC).
    """
    match = re.fullmatch(r"\[?(?P<host>[^\[\]/]+?)\]?:(?P<port>\d{1,5})", address)
    if match is None:
        raise InvalidCluster(
            f"cluster.address={address!r} is no address; write host:port as `ray start --head` prints it, auto for the "
            "cluster that this machine is a node of, or null to start one on this machine"
        )
    try:
        with socket.create_connection((match["host"], int(match["port"])), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(_PREFACE)
            answer = _received(connection, 9)
    except (OSError, OverflowError) as error:
        raise _not_found(address, f"nothing answers there ({error})") from error
    if len(answer) < 9 or answer[3] != _SETTINGS:
        raise _not_found(address, "what answers there is something else")


def _received(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer where the connection ends before."""
    received = b""
    while len(received) < count and (part := connection.recv(count - len(received))):
        received += part
    return received


def _not_found(address: str, reason: str) -> ClusterNotFound:
    return ClusterNotFound(
        f"there is no Ray cluster at {address}: {reason}. Start one with `ray start --head`, give the address that it "
        "prints, or use cluster=local"
    )
