"""A run directory: which stages are skipped, which go on, and where old outputs go.

A record `stages/<name>.json` holds the fingerprint of what a stage was run with: the part of the configuration that
it reads, and the fingerprints of the stages before it. An equal fingerprint means that the outputs still hold
(finished) or can be gone on with (interrupted). So can those of a stage that grows, of which more is wanted now; what
rests on it is then made anew. Outputs of any other fingerprint are moved to `previous/<fingerprint>/`, never deleted
and never mixed with new ones. So is what is left of a finished stage that lacks an output, and all that rests on it:
they are made anew.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from omegaconf import DictConfig

from scripts.errors import RecordCorrupt
from scripts.files import read_json, write_json
from scripts.machine import npas_version
from scripts.previous import move_away, unused
from scripts.stage import Stage


@dataclass(frozen=True)
class Record:
    """What is known of a stage in a run directory; `finished` is None while it runs and after it was interrupted.

    `seconds` adds up over interrupted runs that ended in order; times are UTC, ISO 8601. Of a stage that grows,
    `extent` is how far it was to go. `origin` is the folder of `previous/` that it would have gone to when it began: a
    name that no other run of the stage in this directory has, and that it keeps when it grows.
    """

    stage: str
    fingerprint: str
    upstream: dict[str, str]
    npas: str
    started: str
    finished: str | None = None
    seconds: float = 0.0
    extent: int | None = None
    origin: str | None = None

    @staticmethod
    def path(run_dir: Path, stage: str) -> Path:
        return run_dir / "stages" / f"{stage}.json"

    @classmethod
    def read(cls, run_dir: Path, stage: str) -> Record | None:
        """The record of `stage`, None where it never ran; `RecordCorrupt` for a damaged file."""
        path = cls.path(run_dir, stage)
        if not path.exists():
            return None
        try:
            return cls(**read_json(path))
        except TypeError as error:
            raise RecordCorrupt(path, str(error)) from error

    def write(self, run_dir: Path) -> None:
        write_json(self.path(run_dir, self.stage), asdict(self))


class RunDirectory:
    """The book-keeping of one run directory: what is skipped, gone on with, run anew, or moved to `previous/`."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path = path
        self._say = say

    def perform(self, stages: Sequence[Stage], config: DictConfig, wanted: Collection[str]) -> None:
        """Run the `wanted` of `stages` (all of the job's, in order), each once, and set aside what no longer holds."""
        fingerprints = _fingerprints(stages, config, wanted)
        renewed: set[str] = set()
        for stage in stages:
            if not self._holds(stage, config, fingerprints, renewed):
                renewed.add(stage.name)
        for stage in stages:
            if stage.name in wanted:
                self._perform(stage, config, fingerprints)

    def adopt(
        self, stages: Sequence[Stage], config: DictConfig, wanted: Collection[str], others: Sequence[Path]
    ) -> None:
        """Copy what `wanted` stages would write from another run directory where it is finished, of the same
        fingerprint; a stage that left anything here already is not touched."""
        fingerprints = _fingerprints(stages, config, wanted)
        for stage in (stage for stage in stages if stage.name in wanted):
            if Record.path(self.path, stage.name).exists() or stage.present(self.path):
                continue
            for other in others:
                record = Record.read(other, stage.name)
                whole = record and record.finished and not stage.missing(other)
                if record and whole and record.fingerprint == fingerprints[stage.name]:
                    self._copy(stage, other, record)
                    break

    def _copy(self, stage: Stage, other: Path, record: Record) -> None:
        for output in stage.outputs:
            part = self.path / f"{output}.part"
            if (other / output).is_dir():
                shutil.copytree(other / output, part, dirs_exist_ok=True)
            else:
                shutil.copy2(other / output, part)
            os.replace(part, self.path / output)
        record.write(self.path)
        self._say(f"{stage.name}: the same as in {other}, copied")

    def _holds(
        self, stage: Stage, config: DictConfig, fingerprints: Mapping[str, str], renewed: Collection[str]
    ) -> bool:
        """Whether the stage is finished and stays so; what cannot even be gone on with is moved away.

        `renewed` are the stages before it of which that was not so.
        """
        record = Record.read(self.path, stage.name)
        wanted = fingerprints.get(stage.name)
        done = record is not None and record.finished is not None and record.fingerprint == wanted
        reason = None
        if record is None:
            if wanted and stage.present(self.path):
                reason = "outputs that no record tells the origin of"
        elif (
            wanted
            and record.fingerprint != wanted
            and not stage.continues(record.fingerprint, record.extent, config, fingerprints)
        ):
            reason = "outputs of another configuration"
        elif any(fingerprints.get(name, found) != found for name, found in record.upstream.items()):
            reason = "outputs of an earlier stage that changed"
        elif any(name in renewed for name in stage.after):
            reason = "outputs of an earlier stage that runs again"
        elif wanted and record.finished and (missing := stage.missing(self.path)):
            self._say(f"{stage.name}: {', '.join(missing)} missing, runs again")
            reason = "the other outputs"
        if reason:
            self._move(stage, record, reason)
        return not reason and (done or not wanted)

    def _move(self, stage: Stage, record: Record | None, what: str) -> None:
        present = stage.present(self.path)
        recorded = [Record.path(self.path, stage.name)] if record else []
        target = move_away(self.path, record.fingerprint if record else "unknown", [*present, *recorded])
        if present:
            self._say(f"{stage.name}: {what} moved to {target}")

    def _perform(self, stage: Stage, config: DictConfig, fingerprints: Mapping[str, str]) -> None:
        """Run the stage unless it is done."""
        fingerprint = fingerprints[stage.name]
        record = Record.read(self.path, stage.name)
        if record and record.fingerprint != fingerprint:
            self._say(f"{stage.name}: goes on, from {stage.grows}={record.extent} to {stage.extent(config)}")
        elif record and record.finished:
            self._say(f"{stage.name}: done before, skipped")
            return
        elif record:
            self._say(f"{stage.name}: goes on where it was stopped")
        else:
            self._say(f"{stage.name}: {stage.about}")
        spent = record.seconds if record else 0.0
        origin = (record.origin or record.fingerprint) if record else unused(self.path, fingerprint).name
        upstream = {name: fingerprints[name] for name in stage.after}
        record = Record(
            stage.name,
            fingerprint,
            upstream,
            npas_version(),
            _now(),
            seconds=spent,
            extent=stage.extent(config),
            origin=origin,
        )
        record.write(self.path)
        start = time.perf_counter()
        try:
            stage.run(config, self.path)
        except BaseException:
            replace(record, seconds=spent + time.perf_counter() - start).write(self.path)
            raise
        replace(record, finished=_now(), seconds=spent + time.perf_counter() - start).write(self.path)


def _fingerprints(stages: Sequence[Stage], config: DictConfig, wanted: Collection[str]) -> dict[str, str]:
    """Of the wanted stages, by name."""
    found: dict[str, str] = {}
    for stage in stages:
        if stage.name in wanted:
            found[stage.name] = stage.fingerprint(config, found)
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
