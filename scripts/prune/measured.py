"""What is known of the pruned network at the end of a run: the content of `metrics.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.errors import RecordCorrupt
from scripts.files import read_json, write_json


@dataclass(frozen=True)
class LayerMetrics:
    """One convolution or linear layer; `skipped` says why it was left dense, times are those of its own kernels."""

    name: str
    sparsity: str
    weights: int
    kept: int
    predicted_ms: float | None
    measured_ms: float | None
    skipped: str

    @property
    def rate(self) -> float:
        """Weights before / weights after."""
        return self.weights / self.kept


@dataclass(frozen=True)
class PruneMetrics:
    """Accuracies in percent, None where there were no data; latencies in milliseconds at batch 1 on one thread.

    All measured figures come from one interleaved measurement. `predicted_ms` and its interval come from the latency
    predictor, and are None where a plan was given; `budget_ms` too.
    """

    algorithm: str
    epochs: int
    validation_accuracy: float | None
    dense_validation_accuracy: float | None
    test_accuracy: float | None
    dense_test_accuracy: float | None
    budget_ms: float | None
    predicted_ms: float | None
    predicted_lower_ms: float | None
    predicted_upper_ms: float | None
    measured_ms: float
    measured_spread: float
    dense_ms: float
    onnxruntime_ms: float
    onnxruntime_dense_ms: float
    parameters: int
    dense_parameters: int
    onnx_bytes: int
    dense_onnx_bytes: int
    layers: tuple[LayerMetrics, ...]

    @property
    def within_budget(self) -> bool | None:
        """By measurement; None without a budget."""
        return None if self.budget_ms is None else self.measured_ms <= self.budget_ms

    def write(self, path: Path) -> None:
        """Atomically, as JSON, with `within_budget` for readers other than npas."""
        write_json(path, {**asdict(self), "within_budget": self.within_budget})

    @classmethod
    def read(cls, path: Path) -> PruneMetrics:
        """The inverse of `write`; `RecordCorrupt` for a damaged file."""
        content: dict[str, Any] = read_json(path)
        try:
            del content["within_budget"]
            content["layers"] = tuple(LayerMetrics(**layer) for layer in content["layers"])
            return cls(**content)
        except (KeyError, TypeError) as error:
            raise RecordCorrupt(path, str(error)) from error
