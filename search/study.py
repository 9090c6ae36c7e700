"""The study on disk: opened, locked, checked, and freed from what a killed process left behind."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from search.errors import StudyBusy, StudyCorrupt, StudyElsewhere, StudyMismatch
from search.history import RETRY_OF, code_of
from search.samplers.base import CandidateSampler
from search.storage import PatientStorage, held, masked, open_database

STUDY_NAME = "npas"
FACTS = "npas:search"


@contextmanager
def open_study(
    storage: str | Path, sampler: CandidateSampler, facts: Mapping[str, Any], *, name: str = STUDY_NAME
) -> Iterator[optuna.Study]:
    """The study in `storage`, created if it is not there; held by this process while the context is open.

    Args:
        storage: path of an SQLite file, or a database URL that Optuna understands.
        facts: what makes the search this one, as plain values; a study with others is refused.
        name: of the study, in a database that holds several.

    Raises:
        StudyBusy: another live process holds the SQLite file, or the study in a PostgreSQL database.
        StudyCorrupt: the file is damaged, or is something else.
        StudyMismatch: the study was made by another search.
        StorageUnreachable: the database cannot be reached, or was away for longer than the search waits.
    """
    with ExitStack() as stack:
        if _is_url(storage):
            opened = open_database(str(storage))
            stack.callback(opened.engine.dispose)
            stack.enter_context(held(opened, name))
            study = _study(PatientStorage(optuna.storages.get_storage(opened), masked(storage)), sampler, name)
        else:
            path = Path(storage)
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(path))
            _check_file(path)
            try:
                opened = database(storage)
                stack.callback(opened.engine.dispose)
                study = _study(opened, sampler, name)
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
                raise StudyCorrupt(
                    f"the study in {storage} cannot be opened ({error}): move it away to start a new search, or "
                    "restore it"
                ) from error
        _check_facts(study, storage, facts)
        yield study


def _study(storage: BaseStorage, sampler: CandidateSampler, name: str) -> optuna.Study:
    return optuna.create_study(
        storage=storage, study_name=name, sampler=sampler, direction="maximize", load_if_exists=True
    )


def retry_interrupted(study: optuna.Study, sampler: CandidateSampler) -> None:
    """End the trials that a killed process left running, and put their candidates first in line."""
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    for trial in trials:
        if trial.state is not TrialState.RUNNING:
            continue
        code = code_of(trial, sampler.encoding)
        if code is not None and trial.number not in retried:
            study.enqueue_trial(dict(sampler.encoding.params(code)), user_attrs={RETRY_OF: trial.number})
        study.tell(trial.number, state=TrialState.FAIL)


def database(storage: str | Path) -> RDBStorage:
    """A file for studies, in SQLite's write-ahead mode: safe, and no commit waits for the disk."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(storage, timeout=60, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    return RDBStorage(f"sqlite:///{storage}", engine_kwargs={"creator": connect})


def copy_to_file(storage: str, name: str, path: Path) -> None:
    """Write the study `name` of a database or file into a file of its own, in the place of the one that is there.

    The log that a killed search leaves beside a file goes first: SQLite would write its pages into whatever has the
    file's name.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    source, copy = _opened(storage), database(part)
    try:
        optuna.copy_study(from_study_name=name, from_storage=source, to_storage=copy, to_study_name=STUDY_NAME)
    finally:
        source.engine.dispose()
        copy.engine.dispose()
    for log in ("-wal", "-shm"):
        path.with_name(path.name + log).unlink(missing_ok=True)
    os.replace(part, path)


def name_in(path: Path) -> str:
    """The name of the study in a file that is for one only, or the one that it is to get.

    Raises:
        StudyCorrupt: the file is damaged, or is something else.
    """
    names = [name for (name,) in _rows(path, "SELECT study_name FROM studies")]
    return str(names[0]) if len(names) == 1 else STUDY_NAME


def require_no_more_in(path: Path, storage: str, name: str) -> None:
    """That the study `name` in `storage` may take the place of the one in the file `path`.

    Raises:
        StudyElsewhere: the file has more trials.
        StudyCorrupt, StorageUnreachable: one of them cannot be read.
    """
    here = len(_rows(path, "SELECT trial_id FROM trials"))
    there = _trials_in(storage, name) if here else 0
    if here > there:
        raise StudyElsewhere(
            f"{path} holds {here} trials, and the study {name} in {masked(storage)}, which would take its place, "
            f"{there}: go on without storage=..., or use another run_dir for a search in there"
        )


def _trials_in(storage: str, name: str) -> int:
    if not _is_url(storage) and not Path(storage).exists():
        return 0
    opened = _opened(storage)
    try:
        return opened.get_n_trials(opened.get_study_id_from_name(name))
    except KeyError:
        return 0
    finally:
        opened.engine.dispose()


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """What the file of a study says; nothing, where it is not there or empty."""
    if not path.exists() or not _check_file(path):
        return []
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def _is_url(storage: str | Path) -> bool:
    return "://" in str(storage)


def _opened(storage: str) -> RDBStorage:
    if _is_url(storage):
        return open_database(storage)
    _check_file(Path(storage))
    return database(storage)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes away from the study; the lock goes with the process, however it ends."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyBusy(f"another process is searching in {path}: wait for it, or stop it") from error
        yield


def _check_file(path: Path) -> bool:
    """Whether there is a study in it, or any; raises StudyCorrupt where it is damaged or something else."""
    if not path.exists():
        return False
    advice = "move it away to start a new search, or restore it from a copy"
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("PRAGMA quick_check").fetchone()[0]
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise StudyCorrupt(f"{path} is damaged or no study ({error}): {advice}") from error
    if found != "ok":
        raise StudyCorrupt(f"{path} is damaged ({found}): {advice}")
    if tables and "studies" not in tables:
        raise StudyCorrupt(f"{path} is a database, but no study (it holds {', '.join(sorted(tables))}): {advice}")
    return bool(tables)


def _check_facts(study: optuna.Study, storage: str | Path, facts: Mapping[str, Any]) -> None:
    if FACTS not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(FACTS, dict(facts))
    found = study.user_attrs.get(FACTS, {})
    differing = [key for key in {**facts, **found} if facts.get(key) != found.get(key)]
    if differing:
        what = ", ".join(f"{key} is {found.get(key)!r} there and {facts.get(key)!r} here" for key in differing)
        raise StudyMismatch(
            f"the study in {masked(storage)} belongs to another search: {what}. Use another place for this search, "
            "or repeat the settings of that one to continue it"
        )
