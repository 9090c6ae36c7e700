"""What is known of one network at the end of a run: the content of `winners/<n>/metrics.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.errors import RecordCorrupt
from scripts.files import read_json, write_json


@dataclass(frozen=True)
class KernelTime:
    """One kernel of a compiled network and its measured median in microseconds; `site` is None outside of the sites."""

    layer: str
    op: str
    form: str
    tile: str
    why: str
    measured_us: float

    @property
    def site(self) -> int | None:
        head, _, rest = self.layer.partition(".")
        number = rest.partition(".")[0]
        return int(number) if head == "sites" and number.isdigit() else None


@dataclass(frozen=True)
class Metrics:
    """Accuracies in percent, latencies in milliseconds at batch 1 on one thread.

    All `measured` and `onnxruntime` figures of a run come from one interleaved measurement, so that they may be
    compared; `budget_ms` is the budget against the dense network of that same measurement: of several the smallest that
    is met, or the largest. `candidate` holds one text a site; `sites` are their names where they are layers of the
    user's own network. `predicted_ms` and its interval come from the latency predictor, `supernet_accuracy` from the
    fast evaluation on validation data before the fine-tune, `algorithm` is what pruned it; the dense network, which no
    search proposed, has None of both.
    """

    name: str
    candidate: tuple[str, ...]
    validation_accuracy: float
    test_accuracy: float
    supernet_accuracy: float | None
    predicted_ms: float
    predicted_lower_ms: float
    predicted_upper_ms: float
    measured_ms: float
    measured_spread: float
    budget_ms: float
    dense_ms: float
    dense_test_accuracy: float
    onnxruntime_ms: float
    onnxruntime_spread: float
    onnxruntime_dense_ms: float
    parameters: int
    dense_parameters: int
    onnx_bytes: int
    dense_onnx_bytes: int
    epochs: int
    algorithm: str | None
    kernels: tuple[KernelTime, ...]
    sites: tuple[str, ...] = ()

    def site_of(self, kernel: KernelTime) -> int | None:
        """Index of the site that a kernel belongs to: by its number, or by the name of the layer that was searched."""
        if not self.sites:
            return kernel.site
        named = (i for i, name in enumerate(self.sites) if f"{kernel.layer}.".startswith(f"{name}."))
        return next(named, None)

    @property
    def within_budget(self) -> bool:
        return self.measured_ms <= self.budget_ms

    def write(self, path: Path) -> None:
        """Atomically, as JSON, with `within_budget` for readers other than npas."""
        write_json(path, {**asdict(self), "within_budget": self.within_budget})

    @classmethod
    def read(cls, path: Path) -> Metrics:
        """The inverse of `write`; `RecordCorrupt` for a damaged file."""
        content: dict[str, Any] = read_json(path)
        try:
            del content["within_budget"]
            content["kernels"] = tuple(KernelTime(**kernel) for kernel in content["kernels"])
            content["candidate"] = tuple(content["candidate"])
            content["sites"] = tuple(content.get("sites", ()))
            return cls(**content)
        except (KeyError, TypeError) as error:
            raise RecordCorrupt(path, str(error)) from error
