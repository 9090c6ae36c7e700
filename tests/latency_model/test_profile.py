from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from compiler.spec import KernelSpec
from compiler.target import Target
from latency_model.device import Device, load_device
from latency_model.errors import MeasurementFailed
from latency_model.profile import ATTEMPTS, CONTROL, CONTROLS, NETWORKS, ProfileProgress, profile
from latency_model.runner import Measured
from latency_model.store import KernelStore, specs_of

module = importlib.import_module("latency_model.profile")

Law = Callable[[KernelSpec], float]
Runner = Any  # conftest.LawfulRunner


@pytest.fixture
def store(tmp_path: Path) -> KernelStore:
    return KernelStore(tmp_path / "kernels.parquet")


@pytest.fixture
def specs(pool: tuple[KernelSpec, ...]) -> tuple[KernelSpec, ...]:
    return pool[:60]


def off_by(table: pd.DataFrame, law: Law) -> np.ndarray:
    true = np.array([law(spec) for spec in specs_of(table)])
    return np.abs(np.log(table["median_us"].to_numpy() / true))


def test_each_kernel_is_timed_among_different_neighbours(
    specs: tuple[KernelSpec, ...], device: Device, runner: Runner, store: KernelStore, law: Law
) -> None:
    table = profile([*specs, *specs[:5]], device, store)
    assert set(specs_of(table)) == set(specs)
    assert len(table) == len(specs)
    assert (table["networks"] == NETWORKS).all()
    assert off_by(table, law).max() < 0.1
    assert all(network.count(CONTROL) == CONTROLS for network in runner.networks)
    assert max(map(len, runner.networks)) <= module.NETWORK_SIZE + CONTROLS
    for spec in specs:
        first, second = (set(network) for network in runner.networks if spec in network)
        assert len(first & second) < len(first)
    rows = store.read()
    assert set(rows["device"]) == {"paper"}
    assert set(rows["clock_mhz"]) == {1000.0}
    assert set(rows["environment"]) == {device.environment().fingerprint}


def test_neighbours_are_of_about_the_same_size(device: Device, runner: Runner, store: KernelStore) -> None:
    small = [KernelSpec("conv", 8, 8, size, size) for size in range(4, 4 + module.NETWORK_SIZE)]
    large = [KernelSpec("conv", 256, 256, size, size) for size in range(24, 24 + module.NETWORK_SIZE)]
    profile([spec for pair in zip(small, large, strict=True) for spec in pair], device, store)
    assert len(runner.networks) == 4
    for network in runner.networks:
        assert len({spec.in_channels for spec in network if spec != CONTROL}) == 1


def test_the_weights_of_a_network_fit_a_cache(device: Device, runner: Runner, store: KernelStore) -> None:
    classifiers = [KernelSpec("linear", 1024, 1000 + index, 1, 1) for index in range(20)]
    huge = KernelSpec("linear", 4096, 4096, 1, 1)
    profile([*classifiers, huge], device, store, seconds=0.1)
    weights = [sum(1.0 * spec.macs_dense for spec in members if spec.op == "linear") for members in runner.networks]
    alone = [members for members in runner.networks if huge in members]
    assert all(total <= 1.3 * module.MOST_WEIGHTS for total in weights if total < huge.macs_dense)
    assert all(len(members) < 10 for members in alone)
    assert {spec for members in runner.networks for spec in members} >= {*classifiers, huge}


def test_second_profile_times_only_what_is_new(
    specs: tuple[KernelSpec, ...], device: Device, runner: Runner, store: KernelStore
) -> None:
    profile(specs[:50], device, store)
    before = len(runner.networks)
    table = profile(specs[:50], device, store)
    assert len(runner.networks) == before
    assert len(table) == 50
    table = profile(specs, device, store)
    new = [spec for network in runner.networks[before:] for spec in network if spec != CONTROL]
    assert sorted(map(str, new)) == sorted(map(str, [*specs[50:], *specs[50:]]))
    assert set(specs_of(table)) == set(specs)


def test_interrupted_profile_goes_on_where_it_was(
    specs: tuple[KernelSpec, ...], device: Device, runner: Runner, store: KernelStore
) -> None:
    def stop_at_third(index: int) -> float:
        if index == 2:
            raise KeyboardInterrupt
        return 1.0

    runner.slowdown = stop_at_third
    with pytest.raises(KeyboardInterrupt):
        profile(specs, device, store)
    assert store.read()["network"].nunique() == 2
    table = profile(specs, device, store)
    assert (table["networks"] == NETWORKS).all()
    assert len(store.read()) == NETWORKS * len(specs)


def test_of_a_network_the_runs_count_in_which_the_machine_was_quiet(
    specs: tuple[KernelSpec, ...],
    device: Device,
    runner: Runner,
    store: KernelStore,
    law: Law,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Something else runs during eight of twelve runs, and makes all kernels slower by half."""
    measure = runner.measure

    def disturbed(members: Sequence[KernelSpec], target: Target, *, seconds: float, seed: int) -> Measured:
        found = measure(members, target, seconds=seconds, seed=seed)
        found.kernel_us[np.random.default_rng(seed).permutation(12)[:8]] *= 1.5
        return found

    monkeypatch.setattr(runner, "measure", disturbed)
    table = profile(specs, device, store)
    assert (store.read()["runs"] == 3).all()
    assert off_by(table, law).max() < 0.1


def test_kernels_timed_on_a_disturbed_machine_are_timed_again(
    specs: tuple[KernelSpec, ...], device: Device, runner: Runner, store: KernelStore, law: Law
) -> None:
    runner.slowdown = lambda index: 2.0 if index in (0, 3, 4) else 1.0
    table = profile(specs, device, store)
    assert (table["drift"] < 0.05).all()
    assert (table["networks"] == NETWORKS).all()
    assert off_by(table, law).max() < 0.1
    assert len(store.read()) > NETWORKS * len(specs)


def test_machine_that_is_never_quiet_twice_is_given_up_and_corrected_for(
    specs: tuple[KernelSpec, ...], device: Device, runner: Runner, store: KernelStore, law: Law
) -> None:
    runner.slowdown = lambda index: 1.0 if index == 0 else 1.5
    seen: list[ProfileProgress] = []
    table = profile(specs, device, store, progress=seen.append)
    assert store.read().groupby("in_channels").size().min() >= 1
    assert table["networks"].max() <= ATTEMPTS
    assert off_by(table, law).max() < 0.1
    assert seen[-1].kernels == seen[-1].of_kernels
    again = len(runner.networks)
    profile(specs, device, store)
    assert len(runner.networks) == again


def test_progress_ends_complete_and_never_goes_back(
    specs: tuple[KernelSpec, ...], device: Device, store: KernelStore
) -> None:
    seen: list[ProfileProgress] = []
    profile(specs, device, store, progress=seen.append)
    assert [state.networks for state in seen] == list(range(1, len(seen) + 1))
    assert {state.of_networks for state in seen} == {len(seen)}
    assert [state.kernels for state in seen] == sorted(state.kernels for state in seen)
    assert seen[-1].kernels == seen[-1].of_kernels == len(specs)


def test_time_limit_stops_and_says_what_is_missing(
    specs: tuple[KernelSpec, ...],
    device: Device,
    runner: Runner,
    store: KernelStore,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module.time, "monotonic", lambda: 10.0 * len(runner.networks))
    with caplog.at_level(logging.WARNING, logger="latency_model"):
        table = profile(specs, device, store, limit_s=15)
    assert len(runner.networks) == 2
    assert len(table) == 40
    assert "20 of 60 kernels were not timed within 15 s" in caplog.text


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 0.0, -1.0])
def test_times_that_cannot_be_are_refused_and_not_stored(
    specs: tuple[KernelSpec, ...], device: Device, runner: Runner, store: KernelStore, wrong: float
) -> None:
    runner.slowdown = lambda index: wrong
    with pytest.raises(MeasurementFailed, match="not positive and finite"):
        profile(specs, device, store)
    assert len(store.read()) == 0


def test_kernels_really_run_on_this_machine(store: KernelStore) -> None:
    specs = [
        KernelSpec("conv", 16, 32, 8, 8, (3, 3), padding=(1, 1), epilogue=("relu",)),
        KernelSpec("global_pool", 32, 32, 8, 8),
        KernelSpec("linear", 32, 10, 1, 1),
        KernelSpec("pack", 3, 3, 8, 8),
    ]
    table = profile(specs, load_device("local"), store, seconds=0.01)
    assert set(specs_of(table)) == set(specs)
    assert (table["median_us"] > 0).all()
    assert np.isfinite(table["median_us"]).all()
    facts = store.read().iloc[0]
    assert facts["cpu"]
    assert facts["compiler"]
    assert "-O3" in facts["flags"]
