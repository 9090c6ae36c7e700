"""What a search needs of the machines it runs on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from search.errors import EvaluationFailed
from supernet import Candidate

Evaluator = Callable[[Candidate], float]
"""Accuracy of a candidate in percent points; may raise `EvaluationFailed`."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """What came of one evaluation.

    Attributes:
        number: of its trial.
        accuracy: percent points; NaN if the evaluation failed, for the reason in `failure`.
    """

    number: int
    accuracy: float
    failure: str | None = None

    @classmethod
    def of(cls, evaluator: Evaluator, number: int, candidate: Candidate) -> Outcome:
        """Evaluate; all errors but `EvaluationFailed` are passed on."""
        try:
            accuracy = float(evaluator(candidate))
        except EvaluationFailed as error:
            return cls(number, math.nan, str(error))
        return cls(number, accuracy, None if math.isfinite(accuracy) else f"the accuracy is {accuracy}")


class Workers(Protocol):
    """Evaluate candidates, several at the same time if they can."""

    @property
    def parallel(self) -> int:
        """How many evaluations may be under way, or wait for a worker that is free."""

    def submit(self, number: int, candidate: Candidate) -> None:
        """Take on the evaluation of trial `number`."""

    def next(self) -> Outcome:
        """The next evaluation that is finished, in whatever order; waits for it."""


class Cluster(ABC):
    """Machines: some evaluate candidates, one has the device that latencies are measured on."""

    @abstractmethod
    def check(self, trials: int) -> None:
        """Find out, in seconds, whether a search of so many trials can run; raises a `ClusterError` if not."""

    @abstractmethod
    def workers(self, evaluator: Evaluator, trials: int) -> AbstractContextManager[Workers]:
        """Workers that hold `evaluator`, for at most `trials` evaluations; they are let go when the context ends."""

    @abstractmethod
    def on_device(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What the function returns where the device is, where nothing else of this kind runs meanwhile."""
