from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from search import CandidateSampler, make_sampler
from search.errors import StudyBusy, StudyCorrupt, StudyMismatch
from search.history import RETRY_OF, read_history
from search.study import STUDY_NAME, copy_to_file, database, open_study, retry_interrupted
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]
FACTS = {"space": "abc", "budget_ms": 0.1 + 0.2, "options": {"startup": 5}}


@pytest.fixture
def sampler(toy: SearchSpace, latency: Function) -> CandidateSampler:
    return make_sampler("random", toy, latency, 1.0)


def test_study_is_created_and_found_again(tmp_path: Path, sampler: CandidateSampler) -> None:
    path = tmp_path / "new" / "study.db"
    with open_study(path, sampler, FACTS) as study:
        study.optimize(lambda trial: float(len(sampler.suggest(trial).choices)), n_trials=2)
    with open_study(path, sampler, FACTS) as study:
        assert [trial.value for trial in study.trials] == [3.0, 3.0]
    with open_study(f"sqlite:///{path}", sampler, FACTS) as study:
        assert len(study.trials) == 2


@pytest.mark.parametrize(("key", "value"), [("space", "other"), ("budget_ms", 0.3), ("options", {}), ("seed", 1)])
def test_study_of_another_search_is_refused_by_what_differs(
    tmp_path: Path, sampler: CandidateSampler, key: str, value: object
) -> None:
    with open_study(tmp_path / "study.db", sampler, FACTS):
        pass
    with pytest.raises(StudyMismatch, match=key), open_study(tmp_path / "study.db", sampler, {**FACTS, key: value}):
        pass


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database, and long enough to be taken for one\n" * 40)


def _json(path: Path) -> None:
    path.write_text(json.dumps({"op_code": 0}))


def _truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : 4096 * 4] = b"\xff" * (4096 * 3)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [_garbage, _json, _truncated, _overwritten])
def test_damaged_file_is_named_and_left_alone(
    tmp_path: Path, sampler: CandidateSampler, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "study.db"
    with open_study(path, sampler, FACTS) as study:
        study.optimize(lambda trial: float(len(sampler.suggest(trial).choices)), n_trials=2)
    damage(path)
    before = path.read_bytes()
    with pytest.raises(StudyCorrupt, match=r"study\.db.*move it away"), open_study(path, sampler, FACTS):
        pass
    assert path.read_bytes() == before


def test_database_of_something_else_is_left_alone(tmp_path: Path, sampler: CandidateSampler) -> None:
    path = tmp_path / "study.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StudyCorrupt, match="recipes"), open_study(path, sampler, FACTS):
        pass
    assert path.read_bytes() == before


def test_two_searches_do_not_share_a_file(tmp_path: Path, sampler: CandidateSampler) -> None:
    path = tmp_path / "study.db"
    with (
        open_study(path, sampler, FACTS),
        pytest.raises(StudyBusy, match="another process"),
        open_study(path, sampler, FACTS),
    ):
        pass
    with open_study(path, sampler, FACTS):
        pass


def test_interrupted_trials_are_failed_and_their_candidates_come_first(
    tmp_path: Path, sampler: CandidateSampler
) -> None:
    with open_study(tmp_path / "study.db", sampler, FACTS) as study:
        interrupted = sampler.suggest(study.ask(dict(sampler.distributions())))
        study.ask()  # killed before it had a candidate
        retry_interrupted(study, sampler)
        assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.FAIL, TrialState.WAITING]
        retry_interrupted(study, sampler)
        assert len(study.trials) == 3

        again = study.ask(dict(sampler.distributions()))
        assert sampler.suggest(again) == interrupted
        assert again.user_attrs == {RETRY_OF: 0}
        retry_interrupted(study, sampler)
        third = study.ask(dict(sampler.distributions()))
        assert sampler.suggest(third) == interrupted
        study.tell(third, 1.0)
        assert [o.code for o in read_history(study, sampler.encoding).observations] == [
            sampler.encoding.code(interrupted)
        ]
        assert len(read_history(study, sampler.encoding)) == 1


ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
import optuna
from search.study import STUDY_NAME, database

study = optuna.create_study(storage=database(sys.argv[1]), study_name=STUDY_NAME)
for _ in range(20):
    study.add_trial(optuna.create_trial(value=0.0))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_copy_is_not_mixed_with_what_a_killed_search_left_beside_the_file(tmp_path: Path) -> None:
    path, url = tmp_path / "study.db", f"sqlite:///{tmp_path / 'server.db'}"
    ended = subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "study.db-wal").exists()
    optuna.create_study(storage=url, study_name="other").add_trial(optuna.create_trial(value=1.0))
    copy_to_file(url, "other", path)
    found = optuna.load_study(study_name=STUDY_NAME, storage=database(path))
    assert [trial.value for trial in found.trials] == [1.0]
