"""The content of `plan.json`: what every layer is to become, and what is expected of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pruning import Sparsity
from scripts.errors import RecordCorrupt
from scripts.files import read_json, write_json


@dataclass(frozen=True)
class Attempt:
    """A plan that was compiled and measured beside the dense network, before any training; milliseconds."""

    predicted_ms: float
    measured_ms: float
    budget_ms: float


@dataclass(frozen=True)
class Planned:
    """A plan, and why layers are left out of it.

    `predicted_ms` is the whole network's, `layers_ms` a layer's own kernels'; None and empty without a predictor.
    """

    plan: dict[str, Sparsity]
    skipped: dict[str, str]
    predicted_ms: float | None = None
    predicted_lower_ms: float | None = None
    predicted_upper_ms: float | None = None
    layers_ms: Mapping[str, float] | None = None
    attempts: tuple[Attempt, ...] = ()

    def write(self, path: Path) -> None:
        """Atomically, as JSON."""
        content = asdict(self)
        content["plan"] = {name: str(sparsity) for name, sparsity in self.plan.items()}
        write_json(path, content)

    @classmethod
    def read(cls, path: Path) -> Planned:
        """The inverse of `write`; `RecordCorrupt` for a damaged file."""
        content: dict[str, Any] = read_json(path)
        try:
            content["plan"] = {name: Sparsity.parse(text) for name, text in content["plan"].items()}
            content["attempts"] = tuple(Attempt(**attempt) for attempt in content["attempts"])
            return cls(**content)
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordCorrupt(path, str(error)) from error
