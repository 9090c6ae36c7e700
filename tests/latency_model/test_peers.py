from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compiler.onnx_export import export_onnx
from latency_model import peers
from latency_model.errors import PeerFailed
from latency_model.peers import compare_runtimes, onnx_peer, onnx_session


class Clock:
    """Time that passes only while a runtime runs."""

    def __init__(self) -> None:
        self.ns = 0
        self.calls: list[str] = []

    def runtime(self, name: str, *ms: float) -> Callable[[], None]:
        """A runtime that takes the given times in turn, and then the last one."""
        left = list(ms)

        def run() -> None:
            self.calls.append(name)
            self.ns += int(1e6 * (left.pop(0) if len(left) > 1 else left[0]))

        return run

    def perf_counter(self) -> float:
        return self.ns / 1e9

    def perf_counter_ns(self) -> int:
        return self.ns


class Compiled:
    def __init__(self, run: Callable[[], None]) -> None:
        self.run_once = lambda: run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(peers, "time", clock)
    return clock


def compare(clock: Clock, ours: Callable[[], None], others: dict[str, Any], **options: Any) -> Any:
    return compare_runtimes(Compiled(ours), others, **options).set_index("runtime")  # type: ignore[arg-type]


def turns(clock: Clock) -> list[str]:
    """Names of the runtimes in the order of their turns."""
    run = peers.WARM_RUNS + peers.RUNS_A_TURN
    assert all(len(set(clock.calls[i : i + run])) == 1 for i in range(0, len(clock.calls), run))
    return clock.calls[::run]


def test_order_is_rotated_so_that_each_runs_in_each_place_equally_often(clock: Clock) -> None:
    runtimes = {name: clock.runtime(name, 1.0) for name in "bc"}
    compare(clock, clock.runtime("a", 1.0), runtimes, seconds=0.0, min_rounds=6)
    order = turns(clock)
    rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    kept = rounds[1:]
    assert len(kept) == 6
    for place in range(3):
        assert sorted(one[place] for one in kept) == ["a", "a", "b", "b", "c", "c"]


def test_median_spread_and_ratio_without_the_first_runs_of_a_turn(clock: Clock) -> None:
    first_round = [9.0] * 8
    ours = clock.runtime("ours", *first_round, *[7.0, 6.0, 5.0, 1.0, 1.5, 2.0, 2.5, 3.0] * 3)
    table = compare(clock, ours, {"slow": clock.runtime("slow", 8.0)}, seconds=0.0, min_rounds=3)
    assert table.index[0] == "npas"
    assert table.loc["npas", "measured_ms"] == pytest.approx(2.0)
    assert table.loc["npas", "spread"] == pytest.approx(0.5)
    assert table.loc["npas", "runs"] == 15
    assert table.loc["npas", "ratio"] == 1
    assert table.loc["slow", "measured_ms"] == pytest.approx(8.0)
    assert table.loc["slow", "ratio"] == pytest.approx(4.0)


def test_first_tenth_of_the_time_is_thrown_away(clock: Clock) -> None:
    ours = clock.runtime("ours", *[12.5] * 8, *[1.0] * 2000)
    table = compare(clock, ours, {}, seconds=1.0, min_rounds=1)
    assert table.loc["npas", "measured_ms"] == pytest.approx(1.0)
    assert table.loc["npas", "spread"] == 0
    assert clock.ns / 1e6 == pytest.approx(1000, abs=8)


def test_failing_runtime_is_named(clock: Clock) -> None:
    def broken() -> None:
        raise ValueError("out of memory")

    with pytest.raises(PeerFailed, match=r"'their runtime' failed.*out of memory"):
        compare(clock, clock.runtime("ours", 1.0), {"their runtime": broken})


def test_our_name_is_taken(clock: Clock) -> None:
    with pytest.raises(PeerFailed, match="npas"):
        compare(clock, clock.runtime("ours", 1.0), {"npas": clock.runtime("x", 1.0)})


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    return export_onnx(model, torch.zeros(1, 1, 8, 8), tmp_path_factory.mktemp("onnx") / "model.onnx").path


def test_onnx_session_uses_one_thread(model_file: Path) -> None:
    options = onnx_session(model_file).get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.inter_op_num_threads == 1


def test_onnx_peer_runs_what_it_is_given(model_file: Path) -> None:
    image = np.random.default_rng(0).standard_normal((1, 1, 8, 8), np.float32)
    assert onnx_peer(model_file, image)() is None
    with pytest.raises(PeerFailed, match=r"model\.onnx on these inputs"):
        onnx_peer(model_file, image[:, :, :4])
    with pytest.raises(PeerFailed, match=r"model\.onnx on these inputs"):
        onnx_peer(model_file)


def test_file_that_is_not_onnx_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(PeerFailed, match=r"broken\.onnx"):
        onnx_session(path)
