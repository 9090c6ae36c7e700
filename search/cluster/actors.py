"""Actors on a Ray cluster that evaluate candidates."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from search.cluster.base import Evaluator, Outcome
from search.cluster.head import Head
from search.cluster.holder import Holder, here
from search.errors import ClusterLost
from supernet import Candidate

POLL_S = 2.0
RETRIES = 2
DEATHS_IN_A_ROW = 10

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Order:
    """An evaluation, and how many workers have died of it or with it."""

    number: int
    candidate: Candidate
    deaths: int = 0


class RayWorkers:
    """Actors that hold the evaluator: it is put into the object store once, and each takes it from there once.

    An evaluation whose worker dies is given to another worker, and another worker is started in the place of the dead
    one, on whatever node has room. When the head of the cluster is gone, all of that begins anew with the one that
    comes back. Where several evaluate, a few candidates more are taken on: one that is finished goes on with the next
    while the search still writes down what it has found.

    Args:
        head: of the cluster, which this process has joined.
        evaluator: accuracy of a candidate.
        parallel: evaluations at the same time.
        cpus: processors for each of them.
        patience_s: seconds without any worker after which the search gives up.
    """

    def __init__(self, head: Head, evaluator: Evaluator, *, parallel: int, cpus: int, patience_s: float) -> None:
        self.parallel = parallel + (parallel // 4 or 1 if parallel > 1 else 0)
        self._head = head
        self._evaluator = evaluator
        self._actors = parallel
        self._cpus = cpus
        self._patience_s = patience_s
        self._waiting: deque[_Order] = deque()
        self._deaths = 0
        self._begin()

    def submit(self, number: int, candidate: Candidate) -> None:
        self._waiting.append(_Order(number, candidate))
        self._assign()

    def next(self) -> Outcome:
        """See `Workers.next`; an evaluation fails if three workers died while they made it.

        Raises:
            ClusterMismatch: a node has another version of npas or torch.
            ClusterLost: there is no worker, and has been none for `patience_s`.
            HeadLost: the head of the cluster is gone.
        """
        while True:
            reference = self._ready([*self._running, *self._starting])
            outcome = None
            if reference in self._running:
                outcome = self._finished(reference)
            elif reference is not None:
                self._welcome(reference)
            self._assign()
            if outcome is not None:
                return outcome

    def wait(self) -> None:
        """Until all workers are there."""
        while self._starting:
            reference = self._ready([*self._starting])
            if reference is not None:
                self._welcome(reference)

    def close(self) -> None:
        """Let all workers go."""
        actors = [*self._idle, *self._starting.values(), *(actor for actor, _ in self._running.values())]
        if actors and not self._head.lost():
            for actor in actors:
                ray.kill(actor)

    def _begin(self) -> None:
        """Put the evaluator into the cluster, and start all workers."""
        self._stored = ray.put(self._evaluator)
        self._actor = ray.remote(num_cpus=self._cpus)(Holder)
        self._starting: dict[ray.ObjectRef, ActorHandle] = {}
        self._idle: list[ActorHandle] = []
        self._running: dict[ray.ObjectRef, tuple[ActorHandle, _Order]] = {}
        self._alone_since = time.monotonic()
        for _ in range(self._actors):
            self._start()

    def _begin_anew(self) -> None:
        """Wait for another head, and give all evaluations that were under way to its workers."""
        self._waiting.extendleft(order for _, order in reversed(self._running.values()))
        self._starting, self._idle, self._running = {}, [], {}
        self._head.rejoin()
        self._begin()

    def _start(self) -> None:
        actor = self._actor.remote()
        self._starting[actor.take.remote(self._stored, here())] = actor

    def _assign(self) -> None:
        while self._idle and self._waiting:
            actor, order = self._idle.pop(), self._waiting.popleft()
            self._running[actor.evaluate.remote(order.number, order.candidate)] = (actor, order)

    def _ready(self, references: list[ray.ObjectRef]) -> ray.ObjectRef | None:
        """One of them that is ready; None if after some seconds none is, or if all of them went with the head."""
        ready, _ = ray.wait(references, timeout=POLL_S)
        if ready:
            return ready[0]
        if self._head.lost():
            self._begin_anew()
        elif self._running:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > self._patience_s:
            raise ClusterLost(
                f"no worker has come within {self._patience_s:.0f} s: the cluster has {_describe()} now. Add nodes to "
                "it or free their processors; the same command goes on from the last finished trial"
            )
        return None

    def _welcome(self, reference: ray.ObjectRef) -> None:
        try:
            ray.get(reference)
        except RayError as error:
            if not self._went_with_head(error):
                del self._starting[reference]
                self._replace(error)
        else:
            self._idle.append(self._starting.pop(reference))

    def _finished(self, reference: ray.ObjectRef) -> Outcome | None:
        try:
            outcome: Outcome = ray.get(reference)
        except RayError as error:
            if self._went_with_head(error):
                return None
            _, order = self._running.pop(reference)
            self._replace(error)
            if order.deaths == RETRIES:
                return Outcome(order.number, float("nan"), f"{RETRIES + 1} workers died while they evaluated it")
            self._waiting.appendleft(_Order(order.number, order.candidate, order.deaths + 1))
            return None
        actor, _ = self._running.pop(reference)
        self._deaths = 0
        self._alone_since = time.monotonic()
        self._idle.append(actor)
        return outcome

    def _went_with_head(self, error: RayError) -> bool:
        """Whether all workers went with the head; then all has begun anew. An error of the evaluator's is raised."""
        if self._head.lost():
            self._begin_anew()
            return True
        if isinstance(error, RayTaskError):
            raise cause(error) from error
        return False

    def _replace(self, error: RayError) -> None:
        """Start another worker for one that is gone."""
        self._deaths += 1
        if self._deaths > DEATHS_IN_A_ROW:
            raise ClusterLost(f"{self._deaths} workers died without having evaluated anything, the last one: {error}")
        _logger.warning("a worker of the cluster died, another one is started: %s", str(error).splitlines()[0])
        self._start()


def cause(error: RayTaskError) -> Exception:
    """What was raised on the other machine."""
    raised = error.cause
    return raised if isinstance(raised, Exception) else error


def _describe() -> str:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return f"{len(nodes)} nodes with {ray.cluster_resources().get('CPU', 0):g} processors"
