from __future__ import annotations

import itertools
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from search import Evaluation, Search, SearchResult
from search.errors import EvaluationFailed, InfeasibleBudget, NothingFound, SearchFailed, StudyMismatch
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Interval:
    """A prediction whose upper end is 10 % above its mean."""

    mean_ms: float

    @property
    def upper_ms(self) -> float:
        return 1.1 * self.mean_ms


Make = Callable[..., Search]


@pytest.fixture
def make(toy: SearchSpace, latency: Function, accuracy: Function, tmp_path: Path) -> Make:
    def search(storage: str = "study.db", evaluator: Function = accuracy, **changes: Any) -> Search:
        settings: dict[str, Any] = {"sampler": "npas", "trials": 12, "options": {"startup": 6}, **changes}
        budget_ms = settings.pop("budget_ms", 1.5)
        space = settings.pop("space", toy)
        if settings["sampler"] != "npas":
            settings.pop("options")
        return Search(space, evaluator, lambda c: Interval(latency(c)), budget_ms, tmp_path / storage, **settings)

    return search


def _same(a: SearchResult, b: SearchResult) -> None:
    pd.testing.assert_frame_equal(a.trials.drop(columns="number"), b.trials.drop(columns="number"))


def test_every_trial_is_new_under_the_budget_and_recorded(
    make: Make, latency: Function, accuracy: Function, tmp_path: Path
) -> None:
    shown: list[Evaluation] = []
    there: list[SearchResult] = []
    search = make(seed=3)
    result = search.run(shown.append, on_start=there.append)
    trials = result.trials
    assert list(trials["number"]) == list(range(12))
    assert trials["candidate"].is_unique
    candidates = [Candidate.from_json(text) for text in trials["candidate"]]
    assert list(trials["predicted_ms"]) == [latency(candidate) for candidate in candidates]
    assert (1.1 * trials["predicted_ms"] <= 1.5).all()
    assert list(trials["accuracy"]) == list(trials["reward"]) == [accuracy(candidate) for candidate in candidates]
    assert trials["failure"].isna().all()
    assert not result.exhausted
    assert [(e.number, e.done, e.candidate) for e in shown] == [(n, n + 1, c) for n, c in enumerate(candidates)]

    (found,) = there
    assert found.trials.empty
    for evaluation in shown:
        found = found.after(evaluation)
    _same(found, result)
    assert found.hypervolume == result.progress["hypervolume"].iloc[-1]
    assert shown[-1].rejected == search.sampler.rejected > shown[0].rejected

    best = result.best
    assert best.accuracy == trials["accuracy"].max()
    assert accuracy(best.candidate) == best.accuracy
    assert latency(best.candidate) == best.predicted_ms
    assert best.number in set(result.pareto["number"])

    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert study.best_trial.number == best.number
    assert {trial.user_attrs["seed"] for trial in study.trials} == {3}
    for trial, candidate in zip(study.trials, candidates, strict=True):
        assert trial.constraints == {"latency": pytest.approx(1.1 * latency(candidate) - 1.5)}


@pytest.mark.parametrize("sampler", ["npas", "local_search"])
def test_resumed_search_equals_an_uninterrupted_one(make: Make, accuracy: Function, sampler: str) -> None:
    """Stopped while a candidate is evaluated, and once more, in every case by an exception from the evaluator."""
    whole = make("whole.db", sampler=sampler).run()
    calls = 0

    def stopping(candidate: Candidate) -> float:
        nonlocal calls
        calls += 1
        if calls in (5, 6, 11):
            raise KeyboardInterrupt
        return accuracy(candidate)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            make("parts.db", stopping, sampler=sampler).run()
    _same(make("parts.db", stopping, sampler=sampler).run(), whole)
    assert calls == 12 + 3


NURSERY = """
import os, runpy, sys, time
from pathlib import Path
import torch
from search import Search

torch.set_num_threads(1)
shared, driver = (runpy.run_path(str(Path(sys.argv[1]) / name)) for name in ("conftest.py", "test_driver.py"))
toy, latency, accuracy = (shared[name].__wrapped__() for name in ("toy", "latency", "accuracy"))
interval = driver["Interval"]

def evaluator(candidate):
    with open(sys.argv[2] + ".evaluated", "a") as file:
        file.write(candidate.to_json() + chr(10))
    time.sleep(0.02)
    return accuracy(candidate)

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        settings = {"trials": 30, "options": {"startup": 20}}
        Search(toy, evaluator, lambda c: interval(latency(c)), 1.5, sys.argv[2], **settings).run()
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_search_killed_at_ten_random_moments_ends_as_if_nothing_had_happened(make: Make, tmp_path: Path) -> None:
    """SIGKILL, wherever it hits; processes are forked from one that has imported everything already."""
    whole = make("whole.db", trials=30, options={"startup": 20}).run()
    rng = random.Random(0)
    storage = tmp_path / "killed.db"
    nursery = subprocess.Popen(
        [sys.executable, "-c", NURSERY, Path(__file__).parent, storage],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    kept: list[tuple[int, str]] = []
    statuses = []
    while 0 not in statuses:
        print("start", file=nursery.stdin, flush=True)
        process = int(nursery.stdout.readline())
        if len(statuses) < 10:
            _wait_until_begun(storage, len(kept) + 1)
            time.sleep(0.15 * rng.random())
            os.kill(process, signal.SIGKILL)
        statuses.append(int(nursery.stdout.readline()))
        finished = _finished(storage)
        assert finished[: len(kept)] == kept
        kept = finished
    nursery.stdin.close()
    assert nursery.wait() == 0
    assert statuses == [-signal.SIGKILL] * 10 + [0]
    _same(make("killed.db", trials=30, options={"startup": 20}).run(), whole)
    evaluated = Counter((tmp_path / "killed.db.evaluated").read_text().split(chr(10))[:-1])
    assert set(evaluated) == set(whole.trials["candidate"])
    assert sum(evaluated.values()) <= 30 + 10


def _wait_until_begun(storage: Path, trials: int) -> None:
    """Until so many trials were started."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{storage}?mode=ro", uri=True)) as read:
            if read.execute("SELECT count(*) FROM trials").fetchone()[0] >= trials:
                return
        time.sleep(0.005)
    raise AssertionError(f"no trial {trials} in a minute")


def _finished(storage: Path) -> list[tuple[int, str]]:
    """Finished evaluations: number and candidate."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{storage}?mode=ro", uri=True)) as read:
        rows = read.execute(
            "SELECT number, value_json FROM trials JOIN trial_user_attributes USING (trial_id) "
            "WHERE state = 'COMPLETE' AND key = 'candidate' ORDER BY number"
        )
        return [(number, json.loads(text)) for number, text in rows]
    return []


def test_finished_search_is_not_repeated_and_can_be_extended(make: Make, accuracy: Function) -> None:
    make(sampler="random", trials=6).run()

    def never(candidate: Candidate) -> float:
        raise AssertionError("evaluated again")

    again = make(evaluator=never, sampler="random", trials=6).run()
    assert len(again.trials) == 6
    extended = make(sampler="random", trials=9).run()
    pd.testing.assert_frame_equal(extended.trials[:6], again.trials)
    assert len(extended.trials) == 9


def test_a_trial_is_three_transactions_and_nothing_is_read_back(make: Make) -> None:
    """It begins with all that belongs to it, has an accuracy, and ends; the tables of the others stay untouched."""
    said: Counter[str] = Counter()

    def committed(connection: Connection) -> None:
        said["commit"] += 1

    def executed(connection: Connection, cursor: object, statement: str, *_: object) -> None:
        said["trials"] += "FROM trial_user_attributes" in statement and "trial_id IN" in statement

    event.listen(Engine, "commit", committed)
    event.listen(Engine, "before_cursor_execute", executed)
    try:
        found = []
        for trials in (10, 20):
            said.clear()
            make(f"{trials}.db", sampler="random", trials=trials).run()
            found.append(dict(said))
    finally:
        event.remove(Engine, "commit", committed)
        event.remove(Engine, "before_cursor_execute", executed)
    assert found[1]["commit"] - found[0]["commit"] == 3 * 10
    assert found[1]["trials"] == found[0]["trials"] > 0


def test_small_feasible_set_ends_the_search(make: Make) -> None:
    result = make(budget_ms=0.40, sampler="random", trials=200).run()
    assert result.exhausted
    assert 1 < len(result.trials) < 30
    assert result.trials["candidate"].is_unique


def test_failed_evaluation_is_recorded_and_not_repeated(make: Make, accuracy: Function) -> None:
    numbers = itertools.count()

    def failing(candidate: Candidate) -> float:
        number = next(numbers)
        if number % 5 == 1:
            raise EvaluationFailed("the loss is nan")
        return math.nan if number % 5 == 3 else accuracy(candidate)

    result = make(evaluator=failing, sampler="random", trials=25).run()
    failed = result.trials[result.trials["failure"].notna()]
    assert len(result.trials) == 25
    assert result.trials["candidate"].is_unique
    assert list(failed["failure"]) == ["the loss is nan", "the accuracy is nan"] * 5
    assert failed["accuracy"].isna().all()
    assert len(result.evaluated) == 25 - len(failed)
    assert set(result.pareto["number"]).isdisjoint(failed["number"])


def test_search_that_only_fails_stops(make: Make) -> None:
    with pytest.raises(SearchFailed, match=r"5 evaluations.*nan"):
        make(evaluator=lambda candidate: math.nan, sampler="random").run()
    result = make(sampler="random", trials=5).run()
    with pytest.raises(NothingFound, match="failures"):
        _ = result.best


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"sampler": "random"}, {"budget_ms": 1.4}, {"options": {"startup": 9}}]
)
def test_other_settings_do_not_continue_a_study(make: Make, change: dict[str, Any]) -> None:
    make(trials=1).run()
    with pytest.raises(StudyMismatch, match=next(iter(change))):
        make(**change).run()


def test_other_space_or_predictor_does_not_continue_a_study(make: Make, tiny: SearchSpace, latency: Function) -> None:
    make(trials=1).run()
    with pytest.raises(StudyMismatch, match="space"):
        make(space=tiny).run()
    search = make()
    search.latency = lambda candidate: Interval(1.01 * latency(candidate))
    with pytest.raises(StudyMismatch, match="predictor"):
        search.run()


def test_several_budgets_share_one_study_and_its_resume(make: Make, tmp_path: Path) -> None:
    budgets = (0.6, 1.5, 1.0)
    whole = make(budget_ms=budgets, trials=15).run()
    upper = whole.trials["predicted_upper_ms"]
    assert whole.budgets_ms == (1.5, 1.0, 0.6)
    for turn, limit in enumerate(whole.budgets_ms):
        assert (upper[turn::3] <= limit).all()
        best = whole.best_under(limit)
        assert best.accuracy == whole.trials["accuracy"][upper <= limit].max()
    assert whole.best == whole.best_under(1.5)
    progress = whole.progress
    assert list(progress.columns) == ["number", 1.5, 1.0, 0.6, "hypervolume"]
    assert progress["hypervolume"].is_monotonic_increasing
    assert [progress[limit].iloc[-1] for limit in budgets] == [whole.best_under(limit).accuracy for limit in budgets]
    make("stopped.db", budget_ms=budgets, trials=7).run()
    with pytest.raises(StudyMismatch, match="budget_ms"):
        make("stopped.db", budget_ms=(0.6, 1.0)).run()
    _same(make("stopped.db", budget_ms=budgets, trials=15).run(), make("again.db", budget_ms=budgets, trials=15).run())
    with pytest.raises(NothingFound, match=r"0\.01 ms"):
        whole.best_under(0.01)


def test_infeasible_budget_leaves_no_file(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InfeasibleBudget, match="fastest candidate"):
        make(budget_ms=0.01)
    assert list(tmp_path.iterdir()) == []
