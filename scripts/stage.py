"""A stage: what it reads, what it writes, and the fingerprint that tells whether its outputs still hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True)
class Stage:
    """One step of the main job.

    `reads` are keys of the configuration (dotted) and `after` the stages whose outputs it uses; both make its
    fingerprint. `outputs` are paths in the run directory that this stage alone writes; `leftovers` those that only an
    interrupted run leaves beside them. `run(config, run_dir)` must be able to go on from whatever an interrupted run of
    the same fingerprint left behind. `grows` is a number that the stage reads and of which more means to do more of the
    same: where nothing else differs, `run` goes on from what is there.
    """

    name: str
    about: str
    reads: tuple[str, ...]
    after: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[DictConfig, Path], None] = field(compare=False)
    grows: str | None = None
    leftovers: tuple[str, ...] = ()

    def present(self, run_dir: Path) -> list[Path]:
        """Outputs and leftovers that are there."""
        return [run_dir / name for name in (*self.outputs, *self.leftovers) if (run_dir / name).exists()]

    def missing(self, run_dir: Path) -> list[str]:
        """Outputs that are not there."""
        return [name for name in self.outputs if not (run_dir / name).exists()]

    def fingerprint(self, config: DictConfig, upstream: Mapping[str, str]) -> str:
        """Twelve hexadecimal digits of SHA-256 over what determines the outputs."""
        config = _without_patience(config)
        determines = {
            "stage": self.name,
            "config": {key: _plain(OmegaConf.select(config, key, throw_on_missing=True)) for key in self.reads},
            "upstream": {name: upstream[name] for name in self.after},
        }
        return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()[:12]

    def extent(self, config: DictConfig) -> int | None:
        """How much of it is wanted, of a stage that grows."""
        return None if self.grows is None else int(OmegaConf.select(config, self.grows, throw_on_missing=True))

    def continues(self, fingerprint: str, extent: int | None, config: DictConfig, upstream: Mapping[str, str]) -> bool:
        """Whether what was run with that fingerprint, up to that extent, differs only in that more is wanted now."""
        wanted = self.extent(config)
        if self.grows is None or wanted is None or extent is None or extent >= wanted:
            return False
        earlier = config.copy()
        OmegaConf.update(earlier, self.grows, extent)
        return self.fingerprint(earlier, upstream) == fingerprint


def needed(stages: Sequence[Stage], last: str) -> tuple[str, ...]:
    """`last` and all stages that it rests on, in the order of `stages`."""
    by_name = {stage.name: stage for stage in stages}
    found: set[str] = set()
    pending = [last]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending.extend(by_name[name].after)
    return tuple(stage.name for stage in stages if stage.name in found)


def _without_patience(config: DictConfig) -> DictConfig:
    """Without how long to wait for a device, which determines nothing: with more of it an interrupted run goes on."""
    patient = config.copy()
    OmegaConf.set_struct(patient, False)
    runner = OmegaConf.select(patient, "device.runner")
    if isinstance(runner, DictConfig):
        runner.pop("timeout_s", None)
    return patient


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
