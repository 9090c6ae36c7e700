"""What the result of a pruning says in words; every sentence is computed."""

from __future__ import annotations

from pathlib import Path

from scripts.prune.measured import PruneMetrics


def summary(metrics: PruneMetrics) -> str:
    """A few sentences for a person who reads nothing else."""
    return (
        f"The pruned network takes {metrics.measured_ms:.3f} ms for one sample on one thread, "
        f"{metrics.dense_ms / metrics.measured_ms:.2f}× as fast as the dense network compiled in the same way and "
        f"{metrics.onnxruntime_dense_ms / metrics.measured_ms:.2f}× as fast as ONNX Runtime on the dense network. "
        f"{_accuracy(metrics)}"
    )


def shortfalls(metrics: PruneMetrics) -> list[str]:
    """What was not reached, one sentence each."""
    found = []
    if metrics.within_budget is False:
        assert metrics.budget_ms is not None
        over = 100 * (metrics.measured_ms / metrics.budget_ms - 1)
        found.append(f"The network was measured {over:.1f} % over its budget of {metrics.budget_ms:.3f} ms.")
    if metrics.predicted_ms is not None and abs(metrics.predicted_ms / metrics.measured_ms - 1) > 0.1:
        off = 100 * (metrics.predicted_ms / metrics.measured_ms - 1)
        found.append(f"The prediction of the whole network is {off:+.0f} % off what was measured.")
    if metrics.measured_ms >= metrics.dense_ms:
        found.append("The pruned network is no faster than the dense one.")
    if metrics.onnxruntime_ms < metrics.measured_ms:
        found.append("ONNX Runtime runs the pruned network faster than the code generated here.")
    return found


def next_steps(run_dir: Path) -> list[tuple[str, str]]:
    """(what for, command) pairs."""
    folder = run_dir / "pruned"
    return [
        ("run it from Python", f'compiled = load_compiled("{folder}"); outputs = compiled(x)'),
        ("run it in any other runtime", f"{folder}/model.onnx"),
        (
            "go on with it in torch",
            f'model.load_state_dict(load_file("{folder}/model.safetensors")); shrink(model, example)',
        ),
    ]


def _accuracy(metrics: PruneMetrics) -> str:
    if metrics.test_accuracy is None or metrics.dense_test_accuracy is None:
        return "Accuracy was not measured, as there are no data."
    return (
        f"It gets {metrics.test_accuracy:.2f} % of the test data right, the dense network "
        f"{metrics.dense_test_accuracy:.2f} %."
    )
