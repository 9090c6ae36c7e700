"""Studies in a PostgreSQL database that the tests start, and in one that loses what is said to it."""

from __future__ import annotations

import logging
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from latency_model import NetworkPrediction
from search import Evaluation, Search, SearchResult, make_sampler
from search.errors import StorageUnreachable, StudyBusy, StudyMismatch
from search.storage import PatientStorage, masked
from search.study import open_study, retry_interrupted
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]
Predicted = Callable[[Candidate], NetworkPrediction]
Make = Callable[..., Search]
PASSWORD = "very-secret"


class Postgres:
    """A server of its own in a temporary folder; it refuses to run as root, so then it runs as nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, password):
                shutil.chown(path, "nobody")
        self._call("initdb", "-U", "npas", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://npas:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        for _ in range(50):
            with suppress(subprocess.CalledProcessError):  # while a process of the server that was stopped still ends
                self._call("pg_ctl", "-w", "-o", options, "-l", str(self.folder / "log"), "start")
                return
            time.sleep(0.1)
        raise RuntimeError((self.folder / "log").read_text())

    def stop(self) -> None:
        """As a crash does it: connections are cut, what was not committed is lost."""
        self._call("pg_ctl", "-m", "immediate", "stop")

    def _call(self, program: str, *arguments: str) -> None:
        user = "nobody" if os.geteuid() == 0 else None
        command = [program, "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, user=user, check=True, stdout=subprocess.DEVNULL, timeout=60, cwd=self.folder)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if missing := [name for name in ("initdb", "pg_ctl", "postgres") if shutil.which(name) is None]:
        pytest.skip(f"PostgreSQL's {', '.join(missing)} not found")
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder))
        yield server
        server.stop()


@pytest.fixture
def make(toy: SearchSpace, predicted: Predicted, accuracy: Function) -> Make:
    def search(storage: str | Path, **settings: Any) -> Search:
        told: dict[str, Any] = {"sampler": "local_search", "trials": 20, **settings}
        return Search(toy, accuracy, predicted, 1.5, storage, **told)

    return search


def _same(a: SearchResult, b: SearchResult) -> None:
    pd.testing.assert_frame_equal(a.trials.drop(columns="number"), b.trials.drop(columns="number"))


def test_a_database_holds_several_searches_and_gives_what_a_file_does(
    make: Make, postgres: Postgres, tmp_path: Path
) -> None:
    in_file = make(tmp_path / "study.db").run()
    make(postgres.url, trials=5, study="first").run()
    make(postgres.url, trials=3, study="second", seed=1).run()
    _same(make(postgres.url, study="first").run(), in_file)
    with pytest.raises(StudyMismatch, match="seed is 1 there and 0 here") as raised:
        make(postgres.url, study="second").run()
    assert PASSWORD not in str(raised.value)


def test_two_searches_do_not_share_a_study(make: Make, postgres: Postgres) -> None:
    first = make(postgres.url, study="held", trials=2)

    def second(evaluation: Evaluation) -> None:
        with pytest.raises(StudyBusy, match="another process") as raised:
            make(postgres.url, study="held", trials=2).run()
        assert PASSWORD not in str(raised.value)
        make(postgres.url, study="free", trials=1).run()

    assert len(first.run(second).trials) == 2
    make(postgres.url, study="held", trials=3).run()


def test_a_search_waits_while_its_database_restarts(
    make: Make, postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut off between two trials, and then at random moments; the result is as if nothing had happened."""
    whole = make(tmp_path / "study.db", trials=24).run()
    finished = threading.Event()

    def cut() -> None:
        rng = random.Random(0)
        for _ in range(3):
            postgres.start()
            if finished.wait(0.1 + 0.4 * rng.random()):
                return
            postgres.stop()
        postgres.start()

    cutting = threading.Thread(target=cut)

    def disturb(evaluation: Evaluation) -> None:
        if evaluation.done == 5:
            postgres.stop()
            cutting.start()
        if evaluation.done == 22:
            finished.set()

    with caplog.at_level(logging.WARNING, "search.storage"):
        try:
            result = make(postgres.url, study="restarted", trials=24).run(disturb)
        finally:
            finished.set()
            cutting.join()
    _same(result, whole)
    said = [record.getMessage() for record in caplog.records if record.name == "search.storage"]
    assert any("does not answer" in text for text in said)
    assert any("is back after" in text for text in said)
    assert PASSWORD not in " ".join(said)
    study = optuna.load_study(study_name="restarted", storage=postgres.url)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 24


class Forgetful(InMemoryStorage):
    """Every third operation breaks off, before or after it was done."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(1)
        self.broken = 0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if (name not in PatientStorage.__dict__ and name not in PatientStorage.__mro__[1].__dict__) or name[0] == "_":
            return found

        def perhaps(*arguments: Any, **options: Any) -> Any:
            fate = self.rng.random()
            if fate < 1 / 6:
                self.broken += 1
                raise OperationalError("", None, Exception("the connection is lost"))
            result = found(*arguments, **options)
            if fate < 1 / 3:
                self.broken += 1
                raise OperationalError("", None, Exception("the connection is lost"))
            return result

        return perhaps


def test_nothing_is_lost_or_done_twice_whenever_the_connection_breaks(
    toy: SearchSpace, latency: Function, accuracy: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    forgetful = Forgetful()
    found = []
    for storage in (InMemoryStorage(), PatientStorage(forgetful, "somewhere")):
        sampler = make_sampler("random", toy, latency, 1.5)
        study = optuna.create_study(storage=storage, sampler=sampler, direction="maximize")
        study.enqueue_trial(sampler.encoding.params(sampler.feasible.fastest))
        for _ in range(30):
            trial = study.ask(dict(sampler.distributions()))
            candidate = sampler.suggest(trial)
            trial.set_user_attr("candidate", candidate.to_json())
            trial.set_constraint("latency", latency(candidate) - 1.5)
            study.tell(trial, accuracy(candidate))
        found.append([(t.number, t.state, t.value, t.params, t.constraints, t.user_attrs) for t in study.trials])
    assert forgetful.broken > 100
    assert found[0] == found[1]


def test_patience_ends_with_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(InMemoryStorage):
        def get_all_studies(self) -> Any:
            raise OperationalError("", None, Exception("connection refused"))

    url = f"postgresql+psycopg://npas:{PASSWORD}@nowhere/studies"
    storage = PatientStorage(Gone(), url, patience_s=0.2)
    with pytest.raises(StorageUnreachable, match=r"npas:\*\*\*@nowhere.*connection refused.*same command") as raised:
        storage.get_all_studies()
    assert PASSWORD not in str(raised.value)
    with pytest.raises(KeyError):
        storage.get_study_id_from_name("unknown")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"postgresql+psycopg://npas:{PASSWORD}@127.0.0.1:1/studies", "refused"),
        (f"postgresql+psycopg://npas@127.0.0.1:1/studies?password={PASSWORD}", "refused"),
        (f"nosuchdatabase://npas:{PASSWORD}@host/studies", "nosuchdatabase"),
        (f"oracle+oracledb://npas:{PASSWORD}@host/studies", "driver is not installed"),
        (f"sqlite:////nowhere/at/all/{'study.db'}", "unable to open"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(make: Make, url: str, reason: str) -> None:
    with pytest.raises(StorageUnreachable, match=reason) as raised:
        make(url).run()
    assert PASSWORD not in str(raised.value)
    assert str(raised.value).count(masked(url))


def test_a_wrong_password_is_told(make: Make, postgres: Postgres) -> None:
    with pytest.raises(StorageUnreachable, match="password authentication failed") as raised:
        make(postgres.url.replace(PASSWORD, "wrong-secret")).run()
    assert "wrong-secret" not in str(raised.value)


def test_passwords_are_masked_wherever_they_stand() -> None:
    assert masked("runs/study.db") == "runs/study.db"
    assert masked("mysql://user:word@host/db") == "mysql://user:***@host/db"
    assert masked("postgresql://host/db?user=me&password=word&sslmode=require") == (
        "postgresql://host/db?password=***&sslmode=require&user=me"
    )
    assert masked("://user:word@") == "://***"


def test_a_study_of_another_version_is_refused(toy: SearchSpace, latency: Function, tmp_path: Path) -> None:
    sampler = make_sampler("random", toy, latency, 1.0)
    with open_study(tmp_path / "study.db", sampler, {"format": 0}) as study:
        retry_interrupted(study, sampler)
    with (
        pytest.raises(StudyMismatch, match="format is 0 there and 1 here"),
        open_study(tmp_path / "study.db", sampler, {"format": 1}),
    ):
        pass
