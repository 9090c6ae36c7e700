from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.spec import KernelSpec
from latency_model.adaptive import BATCH, AdaptiveProgress, profile_adaptively
from latency_model.device import Device
from latency_model.errors import TooFewMeasurements
from latency_model.held_out import is_held_out
from latency_model.sampling import choose_kernels
from latency_model.store import KernelStore, specs_of

Pool = tuple[KernelSpec, ...]


@pytest.fixture
def store(tmp_path: Path) -> KernelStore:
    return KernelStore(tmp_path / "kernels")


def test_everything_is_timed_when_there_is_time_and_judges_are_never_chosen(
    pool: Pool, device: Device, store: KernelStore
) -> None:
    few = pool[:150]
    said: list[AdaptiveProgress] = []
    device.runner.noise = 0.0  # type: ignore[attr-defined]
    table = profile_adaptively(few, device, store, first=40, held_out=20, limit_s=600, progress=said.append)
    trained = [spec for spec in specs_of(table) if not is_held_out(spec)]
    assert set(trained) <= {spec for spec in few if not is_held_out(spec)}
    judges = choose_kernels(few, device.target, train=40, held_out=20).held_out
    assert {spec for spec in specs_of(table) if is_held_out(spec)} == set(judges)
    assert len(trained) == sum(not is_held_out(spec) for spec in few)
    assert said[-1].kernels == said[-1].of_kernels == len(table)
    assert np.isnan(said[0].error)
    assert 0 < said[-1].error < 0.1
    assert all(one.seconds + one.left_s == pytest.approx(600) for one in said)


def test_it_ends_where_the_models_agree_better_than_repeated_measurements(
    pool: Pool, device: Device, store: KernelStore
) -> None:
    device.runner.noise = 0.3  # type: ignore[attr-defined]
    said: list[AdaptiveProgress] = []
    table = profile_adaptively(pool, device, store, first=60, held_out=20, limit_s=600, progress=said.append)
    assert said[-1].disagreement <= said[-1].noise
    assert len(table) < len(pool)


def test_the_kernels_that_follow_are_those_that_the_models_disagree_on(
    pool: Pool, device: Device, store: KernelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a disagreement that is the number of channels, the widest kernels come next."""

    def channels(_: object, specs: list[KernelSpec]) -> np.ndarray:
        return np.array([float(spec.in_channels) for spec in specs])

    monkeypatch.setattr("latency_model.predictor.LatencyPredictor.disagreement", channels)
    begin = choose_kernels(pool, device.target, train=40, held_out=10).specs
    rest = [spec for spec in pool if not is_held_out(spec) and spec not in begin]
    seen: list[int] = []

    def stop_after_the_first_batch(state: AdaptiveProgress) -> None:
        seen.append(state.kernels)
        if state.kernels >= len(begin) + BATCH:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile_adaptively(pool, device, store, first=40, held_out=10, limit_s=600, progress=stop_after_the_first_batch)
    added = set(specs_of(store.table())) - set(begin)
    widest = sorted((spec.in_channels for spec in rest), reverse=True)[:BATCH]
    assert sorted((spec.in_channels for spec in added), reverse=True) == widest


def test_what_was_timed_is_not_timed_again(pool: Pool, device: Device, store: KernelStore) -> None:
    first = profile_adaptively(pool[:80], device, store, first=40, held_out=10, limit_s=600)
    networks = len(store.read()["network"].unique())
    again = profile_adaptively(pool[:80], device, store, first=40, held_out=10, limit_s=600)
    assert len(store.read()["network"].unique()) == networks
    assert len(first) == len(again)


def test_no_time_at_all_is_told(pool: Pool, device: Device, store: KernelStore) -> None:
    with pytest.raises(TooFewMeasurements, match="0 measured kernels"):
        profile_adaptively(pool, device, store, first=40, held_out=10, limit_s=0)
