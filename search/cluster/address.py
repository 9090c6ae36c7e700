"""Is there a cluster at an address, and which? Ray itself takes half a minute to find out, and tells little."""

from __future__ import annotations

import re

import grpc
from ray._private.gcs_utils import create_gcs_channel
from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
from ray.exceptions import AuthenticationError

from search.errors import ClusterNotFound, ClusterRefused, InvalidCluster


def cluster_id(address: str, timeout_s: float = 10.0) -> bytes:
    """What the head at an address calls its cluster: another one each time that a head is started.

    Args:
        address: `host:port`.
        timeout_s: seconds to wait for an answer.

    Raises:
        InvalidCluster: it is no `host:port`.
        ClusterNotFound: nothing answers there, or something that is no head of Ray.
        ClusterRefused: the cluster asks for a token, and this process has none or another one.
    """
    if re.fullmatch(r"\[?[^\[\]/]+?\]?:\d{1,5}", address) is None:
        raise InvalidCluster(
            f"cluster.address={address!r} is no address; write host:port as `ray start --head` prints it, auto for the "
            "cluster that this machine is a node of, or null to start one on this machine"
        )
    try:
        with create_gcs_channel(address) as channel:
            reply = NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=timeout_s)
    except AuthenticationError as error:
        raise _refused(address) from error
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise _refused(address) from error
        raise ClusterNotFound(
            f"there is no Ray cluster at {address}: no head of one answers there ({error.details()}). Start one with "
            "`ray start --head`, give the address that it prints, or use cluster=local"
        ) from error
    return bytes(reply.cluster_id)


def _refused(address: str) -> ClusterRefused:
    return ClusterRefused(
        f"the Ray cluster at {address} asks for its token. Put what `ray get-auth-token` prints on its head into "
        "~/.ray/auth_token of every machine and set RAY_AUTH_MODE=token there and here; or start all of its nodes, and "
        "this search, with RAY_AUTH_MODE=disabled"
    )
