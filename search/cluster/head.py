"""The connection to the head of a Ray cluster, and to the one that comes back in its place."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import ray
from ray._private.worker import global_worker
from ray.exceptions import RayError

from search.cluster.address import cluster_id
from search.errors import ClusterNotFound, ClusterRefused, HeadLost

_PAUSE_S = 1.0

_logger = logging.getLogger(__name__)


class Head:
    """The head of a cluster.

    The connection belongs to the process, as all of Ray does, and ends with it. With the head goes all that it knew:
    objects, actors and tasks. Ray would wait for it for ever, so whoever waits for one of them asks now and then
    whether it is `lost`.

    Args:
        address: `host:port`; `auto` for the cluster that this machine is a node of; None starts one on this machine.
        resources: what this machine owns in a cluster that is started here.
        reconnect_s: seconds to wait for a head that is gone; 0 does not wait.
    """

    def __init__(self, address: str | None, resources: dict[str, float], reconnect_s: float) -> None:
        self._address = address
        self._resources = resources
        self._reconnect_s = reconnect_s

    def check(self) -> None:
        """Raises ClusterNotFound, ClusterRefused or InvalidCluster if nobody can join at the address."""
        if self._address not in (None, "auto") and not ray.is_initialized():
            cluster_id(self._address)

    def join(self) -> None:
        """Join the cluster, or start it; does nothing if this process has joined one that is still there.

        Raises:
            ClusterNotFound, ClusterRefused, InvalidCluster: there is none at the address, or none that lets us in.
            HeadLost: see `rejoin`.
        """
        if not ray.is_initialized():
            _join(self._address, self._resources)
        elif self.lost():
            self.rejoin()

    def lost(self) -> bool:
        """Whether the head that this process joined does not answer any more, or another one answers in its place."""
        try:
            return cluster_id(_address()) != bytes(global_worker.gcs_client.cluster_id.binary())
        except (ClusterNotFound, ClusterRefused):
            return True

    def rejoin(self) -> None:
        """Let go of all that went with a lost head, and join the one that comes back; one of our own is started anew.

        Raises:
            HeadLost: none came back in time.
        """
        lost, start = _address(), time.monotonic()
        address = lost if self._address == "auto" else self._address
        ray.shutdown()
        if not self._reconnect_s:
            raise _lost(lost, "cluster.reconnect_s=0 does not wait for it")
        _logger.warning(
            "the head of the Ray cluster at %s is gone: waiting for it, for %.0f s at most", lost, self._reconnect_s
        )
        while True:
            try:
                _join(address, self._resources)
                break
            except ClusterNotFound as error:
                if time.monotonic() - start > self._reconnect_s:
                    raise _lost(lost, f"it did not come back within {self._reconnect_s:.0f} s") from error
            time.sleep(_PAUSE_S)
        _logger.warning("the head of the Ray cluster is back after %.0f s: going on", time.monotonic() - start)


def _join(address: str | None, resources: dict[str, float]) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        own = {"include_dashboard": False, "resources": resources, "num_cpus": os.cpu_count()}
        ray.init(address="local", **options, **own)
        return
    if address != "auto":
        cluster_id(address)
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, RayError) as error:
        raise ClusterNotFound(
            f"no Ray cluster can be joined at cluster.address={address}: {error}. Start one with `ray start --head`, "
            "make this machine a node of it with `ray start --address=...`, or use cluster=local"
        ) from error


def _address() -> str:
    return str(ray.get_runtime_context().gcs_address)


def _lost(address: str, reason: str) -> HeadLost:
    return HeadLost(
        f"the head of the Ray cluster at {address} is gone, and {reason}. Finished trials are kept: start the cluster "
        "again, and the same command goes on with them"
    )
