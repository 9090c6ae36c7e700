"""Everything in this process, one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from search.cluster.base import Cluster, Evaluator, Outcome, Result
from supernet import Candidate


class LocalCluster(Cluster):
    """Nothing to install, nothing to start."""

    def __init__(self, *, device: str = "local") -> None:
        self.device = device

    def check(self, trials: int) -> None:
        """There is nothing that could be wrong."""

    @contextmanager
    def workers(self, evaluator: Evaluator, trials: int) -> Iterator[InProcess]:
        yield InProcess(evaluator)

    def on_device(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return function(*arguments)


class InProcess:
    """Evaluates when it is asked for the outcome."""

    parallel = 1

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._submitted: deque[tuple[int, Candidate]] = deque()

    def submit(self, number: int, candidate: Candidate) -> None:
        self._submitted.append((number, candidate))

    def next(self) -> Outcome:
        number, candidate = self._submitted.popleft()
        return Outcome.of(self._evaluator, number, candidate)
