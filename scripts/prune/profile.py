"""First stage for a budget: time kernels that the network may get, and some pruned networks; fit the predictor."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from compiler import CompiledModel, KernelSpec, compile_model
from latency_model import Device, KernelStore, LatencyPredictor, ProfileProgress, choose_kernels, profile
from pruning import prune
from pruning.importance import EnergyImportance
from scripts import inputs
from scripts.console import console, progress
from scripts.files import write_json
from scripts.profile import with_conversions, with_relatives
from scripts.prune import subject as subjects
from scripts.prune.subject import Subject
from scripts.report.accuracy import terminal_table
from search.variants import Plan, Variants

ROUNDS = 5


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `kernels.parquet`, which keeps what an interrupted run had measured, `networks.json` and `predictor/`."""
    subject, device = Subject.load(config), inputs.device(config)
    variants = subjects.variants(config, subject, EnergyImportance(subject.model), device)
    generator = np.random.default_rng(config.seed)
    plans: list[Plan] = [{}, *(variants.random_plan(generator) for _ in range(config.profile.networks))]
    kernels = [variants.kernels(plan) if plan else variants.dense for plan in plans]
    _profile_kernels(config, variants, kernels, device, run_dir / "kernels.parquet")
    measured = _measure(config, subject, plans, device)
    rows = [
        {"plan": {name: str(sparsity) for name, sparsity in plan.items()}, "measured_ms": ms}
        for plan, ms in zip(plans, measured, strict=True)
    ]
    write_json(run_dir / "networks.json", rows)
    table = KernelStore(run_dir / "kernels.parquet").table(device.environment().fingerprint)
    predictor = LatencyPredictor.fit(table, device, seed=config.seed).fit_networks(kernels, measured)
    predictor.save(run_dir / "predictor")
    console.print(terminal_table(predictor.accuracy(table)))


def compile_pruned(subject: Subject, plan: Plan, device: Device) -> CompiledModel:
    """The network as it will be executed under a plan, not trained: of the weights' values latency depends on no more
    than which of them a scheme keeps."""
    network = copy.deepcopy(subject.model)
    prune(network, subject.examples, plan)
    return compile_model(network, subject.examples, device=device.target)


def _profile_kernels(
    config: DictConfig, variants: Variants, networks: Sequence[Sequence[KernelSpec]], device: Device, path: Path
) -> None:
    occurring = [*variants.pool(), *(spec for network in networks for spec in network)]
    selection = choose_kernels(
        with_relatives(with_conversions(occurring)),
        device.target,
        train=config.profile.kernels,
        held_out=config.profile.held_out,
        seed=config.seed,
    )
    with progress() as bar:
        task = bar.add_task("networks of kernels", total=None, note="")

        def show(state: ProfileProgress) -> None:
            note = f"{state.kernels} of {state.of_kernels} kernels, drift {100 * state.drift:+.0f} %"
            bar.update(task, completed=state.networks, total=state.of_networks, note=note)

        seconds = config.profile.seconds
        profile(selection.specs, device, KernelStore(path), seconds=seconds, seed=config.seed, progress=show)


def _measure(config: DictConfig, subject: Subject, plans: Sequence[Plan], device: Device) -> list[float]:
    """Milliseconds of the network under each plan: the lowest of its medians, as what else runs makes it slower."""
    with progress() as bar:
        task = bar.add_task("compiling pruned networks", total=len(plans), note="")
        networks = []
        for plan in plans:
            networks.append(compile_pruned(subject, plan, device))
            bar.update(task, advance=1)
        task = bar.add_task("timing pruned networks", total=ROUNDS * len(plans), note="")
        best = [float("inf")] * len(plans)
        for _ in range(ROUNDS):
            for index, network in enumerate(networks):
                timing = network.time(seconds=config.profile.seconds / ROUNDS)
                best[index] = min(best[index], timing.median_ms)
                bar.update(task, advance=1, note=f"{timing.median_ms:.3f} ms")
    return best
