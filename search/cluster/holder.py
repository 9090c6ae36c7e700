"""What runs on a worker. It imports little: each worker is a process that has to start."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

from search.cluster.base import Evaluator, Outcome
from search.errors import ClusterMismatch
from supernet import Candidate


class Holder:
    """Holds what evaluates candidates."""

    def take(self, evaluator: Evaluator, versions: dict[str, str]) -> None:
        """Hold `evaluator`.

        Raises:
            ClusterMismatch: the versions here are not those of the process that searches.
        """
        found = here()
        differing = [
            f"{name} {found.get(name)} there and {told} here"
            for name, told in versions.items()
            if found.get(name) != told
        ]
        if differing:
            raise ClusterMismatch(
                f"the node {platform.node()} has {', '.join(differing)}: install the same versions on all nodes"
            )
        self._evaluator = evaluator

    def evaluate(self, number: int, candidate: Candidate) -> Outcome:
        """The outcome of trial `number`."""
        return Outcome.of(self._evaluator, number, candidate)


def here() -> dict[str, str]:
    """Versions of what an evaluation depends on."""
    try:
        npas = importlib.metadata.version("npas")
    except importlib.metadata.PackageNotFoundError:
        npas = "source"
    return {"npas": npas, "torch": torch.__version__}
