"""First stage: time kernels of the search space, and whole networks of it, on the device."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from compiler import CompiledModel, compile_model
from latency_model import Device, KernelStore, ProfileProgress, choose_kernels, profile
from pruning import project
from scripts import inputs
from scripts.console import progress
from scripts.files import read_json, write_json
from search import kernel_specs
from supernet import Candidate, Network, SearchSpace

_POOL = 400


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `kernels.parquet` and `networks.json`; both keep what an interrupted run had measured."""
    device = inputs.device(config)
    space = inputs.space(config, inputs.dataset(config))
    _profile_kernels(config, space, device, run_dir / "kernels.parquet")
    _profile_networks(config, space, device, run_dir / "networks.json")


def compile_random(space: SearchSpace, candidate: Candidate, device: Device, seed: int) -> CompiledModel:
    """The candidate as it will be executed, with random weights: latency does not depend on their values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(space.layers(candidate)).eval()
    with torch.no_grad():
        for name, sparsity in network.plan.items():
            weight = network.get_parameter(f"{name}.weight")
            weight *= project(weight, sparsity)
    size = space.frame.size
    return compile_model(network, torch.zeros(1, space.frame.in_channels, size, size), device=device.target)


def _profile_kernels(config: DictConfig, space: SearchSpace, device: Device, path: Path) -> None:
    rng = np.random.default_rng(config.seed)
    candidates = [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(_POOL))]
    selection = choose_kernels(
        (spec for candidate in candidates for spec in kernel_specs(space, candidate)),
        device.target,
        train=config.profile.kernels,
        held_out=config.profile.held_out,
        seed=config.seed,
    )
    with progress("networks of kernels") as bar:
        task = bar.add_task("timing kernels", total=None, note="")

        def show(state: ProfileProgress) -> None:
            note = f"{state.kernels} of {state.of_kernels} kernels, drift {100 * state.drift:+.0f} %"
            bar.update(task, completed=state.networks, total=state.of_networks, note=note)

        profile(
            selection.specs,
            device,
            KernelStore(path),
            seconds=config.profile.seconds,
            seed=config.seed,
            progress=show,
        )


def _profile_networks(config: DictConfig, space: SearchSpace, device: Device, path: Path) -> None:
    rows: list[dict[str, Any]] = read_json(path) if path.exists() else []
    candidates = _spread(space, config.profile.networks, np.random.default_rng(config.seed + 1))
    with progress("networks") as bar:
        task = bar.add_task("timing networks", total=len(candidates), completed=len(rows), note="")
        for candidate in candidates[len(rows) :]:
            timing = compile_random(space, candidate, device, config.seed).time(seconds=config.profile.seconds)
            rows.append(
                {"candidate": candidate.to_json(), "measured_ms": timing.median_ms, "measured_spread": timing.spread}
            )
            write_json(path, rows)
            bar.update(task, advance=1, note=f"{timing.median_ms:.3f} ms")


def _spread(space: SearchSpace, count: int, rng: np.random.Generator) -> Sequence[Candidate]:
    """Largest and smallest candidate, and uniform ones."""
    return [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(count - 2))]


if __name__ == "__main__":
    from scripts.cli import main

    main(["profile", *sys.argv[1:]])
