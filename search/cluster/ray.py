"""A Ray cluster: actors evaluate, and tasks on the node that owns the device measure.

Plain actors instead of Ray Tune, for three reasons. Tune keeps a second record of the trials, with a state of its own
that is pickled to disk, while here the study is the only one, and nothing on disk is ever unpickled. Its controller
was the bottleneck: 80 evaluations of one second on eight workers that share two cores came every 0.30 to 0.42 s, and
with actors every 0.126 s (0.125 is ideal). And one loop, that of `Search`, serves both drivers.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Before Ray is imported: it neither phones home nor warns that it will one day show no devices to tasks without any.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError

from search.cluster.address import require_cluster
from search.cluster.base import Cluster, Evaluator, Outcome, Result
from search.cluster.holder import Holder, here
from search.errors import (
    ClusterLost,
    ClusterNotFound,
    DeviceNodeMissing,
    InvalidCluster,
    TooManyWorkers,
)
from supernet import Candidate

DEVICE = "npas_device:"
"""Prefix of the resource that the node with a device owns, one of each."""
RETRIES = 2
DEATHS_IN_A_ROW = 10

_logger = logging.getLogger(__name__)


class RayCluster(Cluster):
    """Machines that run Ray, with npas installed on each.

    The connection is made when it is needed first. It belongs to the process, as all of Ray does, and ends with it.

    Args:
        address: `host:port` of the head; `auto` for the cluster that this machine is a node of; None starts a cluster
            on this machine.
        parallel: evaluations at the same time; None for as many as the cluster has processors for.
        cpus: processors for each evaluation.
        patience_s: seconds without any worker, or without the node of the device, after which the search gives up.
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
        device: str = "local",
    ) -> None:
        for name, value in (("parallel", parallel), ("cpus", cpus), ("patience_s", patience_s)):
            if value is not None and not value > 0:
                raise InvalidCluster(f"cluster.{name}={value!r} must be larger than 0")
        self.address = address
        self.parallel = parallel
        self.cpus = cpus
        self.patience_s = patience_s
        self.resource = DEVICE + device

    def check(self, trials: int) -> None:
        """Raises TooManyWorkers, ClusterNotFound, or InvalidCluster for an address that is none."""
        if self.parallel is not None and self.parallel > trials:
            raise TooManyWorkers(
                f"cluster.parallel={self.parallel} evaluations at the same time are more than the search may make in "
                f"all, search.trials={trials}: allow more trials, or fewer at the same time"
            )
        if self.address is not None and self.address != "auto" and not ray.is_initialized():
            require_cluster(self.address)

    def connect(self) -> None:
        """Join the cluster, or start one on this machine; does nothing if this process has joined one already.

        Raises:
            ClusterNotFound: there is none at the address.
        """
        if ray.is_initialized():
            return
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address is None:
            own = {"include_dashboard": False, "resources": {self.resource: 1}, "num_cpus": os.cpu_count()}
            ray.init(address="local", **options, **own)
            return
        if self.address != "auto":
            require_cluster(self.address)
        try:
            ray.init(address=self.address, **options)
        except (ConnectionError, RuntimeError) as error:
            raise ClusterNotFound(
                f"there is no Ray cluster to join at cluster.address={self.address}: {error}. Start one with "
                "`ray start --head`, or use cluster=local"
            ) from error

    @contextmanager
    def workers(self, evaluator: Evaluator, trials: int) -> Iterator[RayWorkers]:
        """See `Cluster.workers`.

        Raises:
            TooManyWorkers, ClusterNotFound: see `check` and `connect`.
        """
        self.check(trials)
        self.connect()
        room = max(1, int(ray.cluster_resources().get("CPU", 0)) // self.cpus)
        workers = RayWorkers(evaluator, self.parallel or min(room, trials), self.cpus, self.patience_s)
        try:
            yield workers
        finally:
            workers.close()

    def on_device(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """See `Cluster.on_device`. A task whose node dies is repeated when the device is back.

        Raises:
            ClusterNotFound: see `connect`.
            DeviceNodeMissing: no node owns the device.
        """
        self.connect()
        self._require_device()
        task = ray.remote(num_cpus=0, resources={self.resource: 1}, max_retries=RETRIES)(_call)
        running = task.remote(function, *arguments)
        missing_since: float | None = None
        while not ray.wait([running], timeout=1.0)[0]:
            if self.resource in ray.cluster_resources():
                missing_since = None
                continue
            missing_since = missing_since or time.monotonic()
            if time.monotonic() - missing_since > self.patience_s:
                ray.cancel(running, force=True)
                self._require_device()
        try:
            result: Result = ray.get(running)
        except RayTaskError as error:
            raise _cause(error) from error
        return result

    def _require_device(self) -> None:
        resources = ray.cluster_resources()
        if self.resource not in resources:
            owned = ", ".join(name for name in sorted(resources) if name.startswith(DEVICE)) or "none"
            raise DeviceNodeMissing(
                f"no node of the cluster owns {self.resource} (devices there: {owned}): on the machine that has the "
                f"device, ray start --address=... --num-cpus=0 --resources='{{\"{self.resource}\": 1}}'"
            )


@dataclass(frozen=True)
class _Order:
    """An evaluation, and how many workers have died of it or with it."""

    number: int
    candidate: Candidate
    deaths: int = 0


class RayWorkers:
    """Actors that hold the evaluator: it is put into the object store once, and each takes it from there once.

    An evaluation whose worker dies is given to another worker, and another worker is started in the place of the dead
    one, on whatever node has room. Where several evaluate, a few candidates more are taken on: one that is finished
    goes on with the next while the search still writes down what it has found.
    """

    def __init__(self, evaluator: Evaluator, parallel: int, cpus: int, patience_s: float) -> None:
        self.parallel = parallel + (parallel // 4 or 1 if parallel > 1 else 0)
        self._patience_s = patience_s
        self._evaluator = ray.put(evaluator)
        self._actor = ray.remote(num_cpus=cpus)(Holder)
        self._starting: dict[ray.ObjectRef, ActorHandle] = {}
        self._idle: list[ActorHandle] = []
        self._waiting: deque[_Order] = deque()
        self._running: dict[ray.ObjectRef, tuple[ActorHandle, _Order]] = {}
        self._deaths = 0
        for _ in range(parallel):
            self._start()

    def submit(self, number: int, candidate: Candidate) -> None:
        self._waiting.append(_Order(number, candidate))
        self._assign()

    def next(self) -> Outcome:
        """See `Workers.next`; an evaluation fails if three workers died while they made it.

        Raises:
            ClusterMismatch: a node has another version of npas or torch.
            ClusterLost: there is no worker, and has been none for `patience_s`.
        """
        while True:
            timeout_s = None if self._running else self._patience_s
            ready, _ = ray.wait([*self._running, *self._starting], timeout=timeout_s)
            if not ready:
                raise self._lost()
            (reference,) = ready
            outcome = None
            if reference in self._starting:
                self._welcome(reference)
            else:
                outcome = self._finished(reference)
            self._assign()
            if outcome is not None:
                return outcome

    def wait(self) -> None:
        """Until all workers are there."""
        while self._starting:
            ready, _ = ray.wait([*self._starting], timeout=self._patience_s)
            if not ready:
                raise self._lost()
            self._welcome(ready[0])

    def close(self) -> None:
        """Let all workers go."""
        for actor in [*self._idle, *self._starting.values(), *(actor for actor, _ in self._running.values())]:
            ray.kill(actor)

    def _start(self) -> None:
        actor = self._actor.remote()
        self._starting[actor.take.remote(self._evaluator, here())] = actor

    def _assign(self) -> None:
        while self._idle and self._waiting:
            actor, order = self._idle.pop(), self._waiting.popleft()
            self._running[actor.evaluate.remote(order.number, order.candidate)] = (actor, order)

    def _welcome(self, reference: ray.ObjectRef) -> None:
        actor = self._starting.pop(reference)
        try:
            ray.get(reference)
        except RayTaskError as error:
            raise _cause(error) from error
        except RayActorError as error:
            self._replace(error)
        else:
            self._idle.append(actor)

    def _finished(self, reference: ray.ObjectRef) -> Outcome | None:
        actor, order = self._running.pop(reference)
        try:
            outcome: Outcome = ray.get(reference)
        except RayTaskError as error:
            raise _cause(error) from error
        except RayActorError as error:
            self._replace(error)
            if order.deaths == RETRIES:
                return Outcome(order.number, float("nan"), f"{RETRIES + 1} workers died while they evaluated it")
            self._waiting.appendleft(_Order(order.number, order.candidate, order.deaths + 1))
            return None
        self._deaths = 0
        self._idle.append(actor)
        return outcome

    def _lost(self) -> ClusterLost:
        return ClusterLost(
            f"no worker has come within {self._patience_s:.0f} s: the cluster has {_describe()} now. Add nodes to it "
            "or free their processors; the same command goes on from the last finished trial"
        )

    def _replace(self, error: RayError) -> None:
        """Start another worker for one that is gone."""
        self._deaths += 1
        if self._deaths > DEATHS_IN_A_ROW:
            raise ClusterLost(f"{self._deaths} workers died without having evaluated anything, the last one: {error}")
        _logger.warning("a worker of the cluster died, another one is started: %s", str(error).splitlines()[0])
        self._start()


def _call(function: Callable[..., Result], *arguments: Any) -> Result:
    return function(*arguments)


def _cause(error: RayTaskError) -> Exception:
    """What was raised on the other machine."""
    cause = error.cause
    return cause if isinstance(cause, Exception) else error


def _describe() -> str:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return f"{len(nodes)} nodes with {ray.cluster_resources().get('CPU', 0):g} processors"
