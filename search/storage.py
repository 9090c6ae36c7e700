"""Studies in a database that several machines reach: opened, held by one search, and waited for while it is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from zlib import crc32

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

from search.errors import StorageUnreachable, StudyBusy

PATIENCE_S = 300.0
"""How long a search waits for its database."""
CONNECT_TIMEOUT_S = 10
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SECRETS = ("password", "passwd", "sslpassword", "sslkey")

_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


def masked(storage: object) -> str:
    """Where a study lies, without any password, for people to read."""
    text = str(storage)
    if "://" not in text:
        return text
    try:
        url = make_url(text)
    except ArgumentError:
        return f"{text.partition('://')[0]}://***"
    query = {key: "***" if key.lower() in _SECRETS else value for key, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def open_database(url: str) -> RDBStorage:
    """Connect to a database and create Optuna's tables in it, if they are not there.

    Raises:
        StorageUnreachable: the URL makes no sense, its driver is not installed, or the database does not let us in.
    """
    try:
        parsed = make_url(url)
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": _connect_arguments(parsed)})
    except ImportError as error:
        raise _unreachable(
            url,
            f"its driver is not installed ({error.__cause__ or error}); pip install "
            "'npas[postgres]' brings the one of postgresql+psycopg://",
        ) from error
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        raise _unreachable(url, _reason(error)) from error


@contextmanager
def held(database: RDBStorage, study: str) -> Iterator[None]:
    """Keep other searches away from the study; the lock goes with the connection, however it ends.

    Only PostgreSQL has such locks in a form that costs nothing to use; elsewhere this does nothing. A server that is
    restarted forgets it.

    Raises:
        StudyBusy: another search holds it.
    """
    if database.engine.dialect.name != "postgresql":
        yield
        return
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        key = crc32(f"npas:{study}".encode())
        if not connection.scalar(sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(key))):
            raise StudyBusy(
                f"another process is searching in the study {study} of {masked(database.url)}: wait for it, or stop it"
            )
        yield
        connection.invalidate()  # which ends the session there, and with it the lock, whatever became of the server


def _patient(name: str) -> Callable[..., Any]:
    def method(self: PatientStorage, *arguments: Any, **options: Any) -> Any:
        return self.patiently(lambda: getattr(self.storage, name)(*arguments, **options))

    method.__name__ = name
    return method


_DELEGATED = {name: _patient(name) for name in BaseStorage.__abstractmethods__}
_Delegating: Any = type("_Delegating", (BaseStorage,), _DELEGATED)
"""A storage whose every method asks another storage, patiently."""


class PatientStorage(_Delegating):  # type: ignore[misc]
    """A storage that waits while its database does not answer, and then goes on with what it was doing.

    Whether an operation whose connection broke was done cannot be known: trials that it may have created or ended are
    looked for before it is repeated. That holds as long as one process writes to a study.

    Args:
        storage: asks the database.
        where: the database, in words for people.
        patience_s: seconds to wait at most.

    Raises:
        StorageUnreachable: by any method, when that time is over.
    """

    def __init__(self, storage: BaseStorage, where: str, patience_s: float = PATIENCE_S) -> None:
        self.storage = storage
        self._where = where
        self._patience_s = patience_s
        self._latest = -1

    def patiently(self, operation: Callable[[], _Result]) -> _Result:
        """The result of `operation`, which is repeated until the database answers."""
        start, attempt = time.monotonic(), 0
        while True:
            try:
                result = operation()
            except Exception as error:
                waited = time.monotonic() - start
                if not _is_away(error):
                    raise
                if waited > self._patience_s:
                    raise _unreachable(
                        self._where,
                        f"it has been away for {waited:.0f} s ({_reason(error)}). Finished trials are safe there, and "
                        "the same command goes on with them",
                    ) from error
                if attempt == 0:
                    _logger.warning(
                        "the database %s does not answer (%s): waiting for it, for %.0f s at most",
                        self._where,
                        _reason(error),
                        self._patience_s,
                    )
                time.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
                attempt += 1
            else:
                if attempt:
                    _logger.warning("the database %s is back after %.1f s", self._where, time.monotonic() - start)
                return result

    def get_all_trials(self, study_id: int, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        trials: list[FrozenTrial] = super().get_all_trials(study_id, *arguments, **options)
        self._latest = max([self._latest, *(trial._trial_id for trial in trials)])
        return trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if self._latest < 0:
            self.get_all_trials(study_id, deepcopy=False)
        self.get_study_user_attrs(study_id)  # waits here: Optuna repeats a creation itself, silently, and never looks
        attempts = 0

        def create() -> int:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                for trial in self.storage.get_all_trials(study_id, deepcopy=False):
                    if trial._trial_id > self._latest:
                        return trial._trial_id
            return self.storage.create_new_trial(study_id, template_trial)

        self._latest = max(self._latest, self.patiently(create))
        return self._latest

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        attempts = 0

        def end() -> bool:
            nonlocal attempts
            attempts += 1
            return (attempts > 1 and self.storage.get_trial(trial_id).state is state) or (
                self.storage.set_trial_state_values(trial_id, state, values)
            )

        return self.patiently(end)


def _is_away(error: BaseException | None) -> bool:
    """Whether it, or what caused it, is a connection that broke or could not be made."""
    broken = OperationalError | InterfaceError | PendingRollbackError  # the last where Optuna goes on after the first
    return error is not None and (isinstance(error, broken) or _is_away(error.__cause__))


def _connect_arguments(url: URL) -> dict[str, Any]:
    return {"connect_timeout": CONNECT_TIMEOUT_S} if url.get_backend_name() in ("postgresql", "mysql") else {}


def _reason(error: BaseException) -> str:
    """The first line of what the database said, without SQLAlchemy's words around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _unreachable(storage: str, reason: str) -> StorageUnreachable:
    return StorageUnreachable(
        f"the study's storage {masked(storage)} cannot be used: {reason}. Give the URL of a database, such as "
        "postgresql+psycopg://USER@HOST/DATABASE with the password in ~/.pgpass, or the path of a file"
    )
