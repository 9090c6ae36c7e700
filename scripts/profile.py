"""First stage: time kernels of the search space, and whole networks of it, on the device."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from compiler import CompiledModel, KernelSpec, Timing, compile_model
from compiler.layout import LAYOUTS
from compiler.passes import WIDTH_KEEPING
from compiler.spec import CONVOLUTIONS
from latency_model import (
    AdaptiveProgress,
    Device,
    KernelStore,
    ProfileProgress,
    choose_kernels,
    profile,
    profile_adaptively,
)
from scripts import inputs
from scripts.console import progress
from scripts.files import read_json, write_json
from search import timed_specs
from supernet import Candidate, ChoiceSpace, OwnModel, SuperNet

_POOL = 400
_ROUNDS = 5
_FEW = 8
_FACTORS = (0.5, 0.75, 1.25, 1.5, 2.0, 3.0, 4.0)


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `kernels.parquet` and `networks.json`, which keep what an interrupted run had measured."""
    device = inputs.device(config)
    data = inputs.dataset(config)
    supernet = inputs.supernet(config, data)
    _profile_kernels(config, supernet.space, device, run_dir / "kernels.parquet")
    _profile_networks(config, supernet, device, data.input_shape, run_dir / "networks.json")


def compile_untrained(
    supernet: SuperNet | OwnModel, candidate: Candidate, device: Device, shape: Sequence[int]
) -> CompiledModel:
    """The candidate as it will be executed on a picture of `shape`, not trained: of the weights' values latency depends
    on no more than which of them a scheme keeps."""
    network = supernet.extract(candidate).eval()
    return compile_model(network, torch.zeros(1, *shape), device=device.target, passes=WIDTH_KEEPING)


def spread_candidates(space: ChoiceSpace, count: int, rng: np.random.Generator) -> list[Candidate]:
    """From the smallest candidate, over uniformly drawn ones in the middle, to the largest.

    Those drawn uniformly have almost the same latency, the more so the more sites there are, while a search looks where
    its budget is, and the dense network, of which a budget may be a share, is far from them.
    """
    smallest, largest = space.smallest(), space.largest()
    shares = np.linspace(-1, 1, count)
    return [space.sample_near(largest if share > 0 else smallest, abs(share), rng) for share in shares]


def with_relatives(pool: Iterable[KernelSpec]) -> list[KernelSpec]:
    """The distinct kernels of `pool`, and wider and narrower ones of operations that hardly vary in it.

    Input, pool and classifier are nearly the same in every candidate. One case of an operation is either trained on or
    judged by, so that without relatives of it there would be nothing to train on, or nothing to judge by.
    """
    distinct = list(dict.fromkeys(pool))
    cases = Counter(spec.op for spec in distinct)
    rare = [spec for spec in distinct if cases[spec.op] < _FEW]
    relatives = [_scaled(spec, factor) for spec in rare for factor in _FACTORS]
    return list(dict.fromkeys([*distinct, *relatives]))


def with_conversions(pool: Iterable[KernelSpec]) -> list[KernelSpec]:
    """The distinct kernels of `pool`, and the change of layout, both ways, of every image that one of them reads.

    The compiler inserts such a change wherever it pays, which may be in few candidates and in none of the pool.
    """
    distinct = list(dict.fromkeys(pool))
    shapes = {(spec.in_channels, spec.height, spec.width): None for spec in distinct if spec.op in CONVOLUTIONS}
    changes = [
        KernelSpec("convert", channels, channels, height, width, reads=reads, writes=writes)
        for channels, height, width in shapes
        if height * width > 1
        for reads, writes in permutations(LAYOUTS, 2)
    ]
    return list(dict.fromkeys([*distinct, *changes]))


def _scaled(spec: KernelSpec, factor: float) -> KernelSpec:
    width = max(1, round(factor * spec.in_channels))
    return replace(
        spec,
        in_channels=width,
        out_channels=width if spec.out_channels == spec.in_channels else spec.out_channels,
        groups=width if spec.op == "depthwise" else spec.groups,
    )


def _profile_kernels(config: DictConfig, space: ChoiceSpace, device: Device, path: Path) -> None:
    rng = np.random.default_rng(config.seed)
    candidates = spread_candidates(space, _POOL, rng)
    occurring = (spec for candidate in candidates for spec in timed_specs(space, candidate, device.target))
    pool = with_relatives(with_conversions(occurring))
    if config.profile.minutes is None:
        _time_some(config, pool, device, KernelStore(path))
    else:
        _time_adaptively(config, pool, device, KernelStore(path))


def _time_some(config: DictConfig, pool: list[KernelSpec], device: Device, store: KernelStore) -> None:
    chosen = choose_kernels(
        pool, device.target, train=config.profile.kernels, held_out=config.profile.held_out, seed=config.seed
    )
    with progress() as bar:
        task = bar.add_task("networks of kernels", total=None, note="")

        def show(state: ProfileProgress) -> None:
            left = state.seconds / state.networks * (state.of_networks - state.networks)
            note = (
                f"{state.kernels} of {state.of_kernels} kernels, drift {100 * state.drift:+.0f} %, {_clock(left)} left"
            )
            bar.update(task, completed=state.networks, total=state.of_networks, note=note)

        profile(chosen.specs, device, store, seconds=config.profile.seconds, seed=config.seed, progress=show)


def _time_adaptively(config: DictConfig, pool: list[KernelSpec], device: Device, store: KernelStore) -> None:
    with progress() as bar:
        task = bar.add_task("kernels", total=None, note="")

        def show(state: AdaptiveProgress) -> None:
            known = f"error {100 * state.error:.1f} %, noise {100 * state.noise:.1f} %, " if state.error >= 0 else ""
            note = f"{known}at most {_clock(state.left_s)} left"
            bar.update(task, completed=state.kernels, total=state.of_kernels, note=note)

        profile_adaptively(
            pool,
            device,
            store,
            first=config.profile.kernels,
            held_out=config.profile.held_out,
            limit_s=60 * config.profile.minutes,
            seconds=config.profile.seconds,
            seed=config.seed,
            progress=show,
        )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _profile_networks(
    config: DictConfig, supernet: SuperNet | OwnModel, device: Device, shape: Sequence[int], path: Path
) -> None:
    """Every network once a round, and the lowest of its medians: what else runs on a machine makes a network slower.

    `path` is written after each of them, and what it holds for this environment already is not timed again.
    """
    rng = np.random.default_rng(config.seed + 1)
    candidates = spread_candidates(supernet.space, config.profile.networks, rng)
    timed = _timed_before(path, candidates, device)
    with progress() as bar:
        task = bar.add_task("compiling networks", total=len(candidates), note="")
        networks = []
        for candidate in candidates:
            networks.append(compile_untrained(supernet, candidate, device, shape))
            bar.update(task, advance=1)
        task = bar.add_task("timing networks", total=_ROUNDS * len(candidates), note="")
        bar.update(task, completed=sum(one.rounds for one in timed))
        for number, index in product(range(_ROUNDS), range(len(candidates))):
            if timed[index].rounds > number:
                continue
            timing = device.runner.time(networks[index], seconds=config.profile.seconds / _ROUNDS)
            timed[index] = timed[index].after(timing)
            write_json(path, [asdict(one) for one in timed if one.rounds])
            bar.update(task, advance=1, note=f"{timing.median_ms:.3f} ms")


@dataclass(frozen=True)
class _Timed:
    """The fastest of the rounds in which a network was timed so far."""

    candidate: str
    environment: str
    rounds: int = 0
    measured_ms: float = math.inf
    measured_spread: float = math.inf

    def after(self, timing: Timing) -> _Timed:
        """With one more round."""
        best = min((self.measured_ms, self.measured_spread), (timing.median_ms, timing.spread))
        return _Timed(self.candidate, self.environment, self.rounds + 1, *best)


def _timed_before(path: Path, candidates: Sequence[Candidate], device: Device) -> list[_Timed]:
    """How far each of the networks is."""
    environment = device.environment().fingerprint
    new = [_Timed(candidate.to_json(), environment) for candidate in candidates]
    rows = read_json(path) if path.exists() else []
    known = {(row["candidate"], row.get("environment")): row for row in rows}
    return [_Timed(**known.get((one.candidate, one.environment), asdict(one))) for one in new]


if __name__ == "__main__":
    from scripts.cli import main

    main(["profile", *sys.argv[1:]])
