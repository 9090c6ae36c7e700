"""A Ray cluster: actors evaluate, and tasks on the node that owns the device measure.

Plain actors instead of Ray Tune, for three reasons. Tune keeps a second record of the trials, with a state of its own
that is pickled to disk, while here the study is the only one, and nothing on disk is ever unpickled. Its controller
was the bottleneck: 80 evaluations of one second on eight workers that share two cores came every 0.30 to 0.42 s, and
with actors every 0.126 s (0.125 is ideal). And one loop, that of `Search`, serves both drivers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from search.cluster.actors import POLL_S, RETRIES, RayWorkers, cause
from search.cluster.base import Cluster, Evaluator, Result
from search.cluster.head import Head
from search.errors import DeviceNodeMissing, InvalidCluster, TooManyWorkers

DEVICE = "npas_device:"
"""Prefix of the resource that the node with a device owns, one of each."""
ANY_DEVICE = DEVICE + "*"
"""What a cluster that is started here owns, one of it: every device that this machine reaches, one at a time."""


class RayCluster(Cluster):
    """Machines that run Ray, with npas installed on each.

    The connection is made when it is needed first. It belongs to the process, as all of Ray does, and ends with it.

    Args:
        address: `host:port` of the head; `auto` for the cluster that this machine is a node of; None starts a cluster
            on this machine.
        parallel: evaluations at the same time; None for as many as the cluster has processors for.
        cpus: processors for each evaluation.
        patience_s: seconds without any worker, or without the node of the device, after which the search gives up.
        reconnect_s: seconds to wait for the head to come back when it is gone; 0 gives up at once.
        device: name of the device; the node that has it owns the resource `npas_device:<name>`, one of it.

    Raises:
        InvalidCluster: a number is not positive.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        parallel: int | None = None,
        cpus: int = 1,
        patience_s: float = 300.0,
        reconnect_s: float = 300.0,
        device: str = "local",
    ) -> None:
        for name, value in (("parallel", parallel), ("cpus", cpus), ("patience_s", patience_s)):
            if value is not None and not value > 0:
                raise InvalidCluster(f"cluster.{name}={value!r} must be larger than 0")
        if not reconnect_s >= 0:
            raise InvalidCluster(f"cluster.reconnect_s={reconnect_s!r} must be 0 or more")
        self.parallel = parallel
        self.cpus = cpus
        self.patience_s = patience_s
        self.resource = DEVICE + device
        self.head = Head(address, {ANY_DEVICE: 1}, reconnect_s)

    def check(self, trials: int) -> None:
        """Raises TooManyWorkers, or what `Head.check` does."""
        if self.parallel is not None and self.parallel > trials:
            raise TooManyWorkers(
                f"cluster.parallel={self.parallel} evaluations at the same time are more than the search may make in "
                f"all, search.trials={trials}: allow more trials, or fewer at the same time"
            )
        self.head.check()

    @contextmanager
    def workers(self, evaluator: Evaluator, trials: int) -> Iterator[RayWorkers]:
        """See `Cluster.workers`.

        Raises:
            TooManyWorkers, ClusterNotFound, ClusterRefused, HeadLost: see `check` and `Head.join`.
        """
        self.check(trials)
        self.head.join()
        room = max(1, int(ray.cluster_resources().get("CPU", 0)) // self.cpus)
        parallel = self.parallel or min(room, trials)
        workers = RayWorkers(self.head, evaluator, parallel=parallel, cpus=self.cpus, patience_s=self.patience_s)
        try:
            yield workers
        finally:
            workers.close()

    def on_device(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """See `Cluster.on_device`. A task whose node dies is repeated when the device is back.

        Raises:
            ClusterNotFound, ClusterRefused, HeadLost: see `Head.join`.
            DeviceNodeMissing: no node owns the device.
        """
        self.head.join()
        self._require_device()
        running = self._start(function, *arguments)
        missing_since: float | None = None
        while True:
            ready, _ = ray.wait([running], timeout=POLL_S)
            try:
                if ready:
                    result: Result = ray.get(running)
                    return result
            except RayError as error:
                if not self.head.lost():
                    raise (cause(error) if isinstance(error, RayTaskError) else error) from error
            if self.head.lost():
                self.head.rejoin()
                running = self._start(function, *arguments)
            elif self._owned() is not None:
                missing_since = None
            else:
                missing_since = missing_since or time.monotonic()
                if time.monotonic() - missing_since > self.patience_s:
                    ray.cancel(running, force=True)
                    self._require_device()

    def _start(self, function: Callable[..., Result], *arguments: Any) -> ray.ObjectRef:
        """A task that waits for the device."""
        resources = {self._owned() or self.resource: 1}
        return ray.remote(num_cpus=0, resources=resources, max_retries=RETRIES)(_call).remote(function, *arguments)

    def _owned(self) -> str | None:
        """The resource that stands for the device; None if no node owns it."""
        owned = ray.cluster_resources()
        return next((name for name in (self.resource, ANY_DEVICE) if name in owned), None)

    def _require_device(self) -> None:
        if self._owned() is None:
            owned = ", ".join(name for name in sorted(ray.cluster_resources()) if name.startswith(DEVICE)) or "none"
            raise DeviceNodeMissing(
                f"no node of the cluster owns {self.resource} (devices there: {owned}): on the machine that has the "
                f"device, ray start --address=... --num-cpus=0 --resources='{{\"{self.resource}\": 1}}'"
            )


def _call(function: Callable[..., Result], *arguments: Any) -> Result:
    return function(*arguments)
