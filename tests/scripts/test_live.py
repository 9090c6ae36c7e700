"""What a search shows on a terminal and elsewhere, and its curves for TensorBoard."""

import io
import math

import pandas as pd
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts import live
from scripts.live import live_view
from scripts.scalars import FOLDER, scalars
from search import Evaluation, SearchResult
from search.result import COLUMNS
from supernet import Candidate, Choice

TRIALS = 20
CANDIDATE = Candidate((Choice.parse("conv3x3|dense|1"),))


def evaluation(done):
    """The accuracy grows by a point each time, the latency by 0.05 ms from 0.1; each seventh fails."""
    failed = done % 7 == 0
    accuracy = math.nan if failed else 50.0 + done
    return Evaluation(
        number=done + 100,
        candidate=CANDIDATE,
        predicted_ms=0.05 * done,
        predicted_upper_ms=0.05 * done + 0.05,
        accuracy=accuracy,
        reward=accuracy,
        failure="the loss is nan" if failed else None,
        done=done,
        trials=TRIALS,
        rejected=3 * done,
    )


def watch(views, first, last, budgets_ms=(2.0, 0.5)):
    """Show the evaluations `first` to `last` of a search that has those before behind it."""
    found = SearchResult(pd.DataFrame(columns=list(COLUMNS)), budgets_ms, False)
    for done in range(1, first):
        found = found.after(evaluation(done))
    for view in views:
        view.start(found)
    for done in range(first, last + 1):
        found = found.after(evaluation(done))
        for view in views:
            view.show(evaluation(done), found)
    return found


@pytest.fixture
def terminal(monkeypatch):
    made = Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr(live, "console", made)
    return made.file


def test_without_a_terminal_ten_lines_tell_a_whole_search(capsys):
    with live_view(TRIALS) as view:
        watch([view], 1, TRIALS)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" of ")[0] for line in lines] == [str(done) for done in range(2, TRIALS + 1, 2)]
    assert "under 2.000 ms: best 70.0 % at 1.000 ms predicted" in lines[-1]
    assert "under 0.500 ms: best 59.0 % at 0.450 ms predicted" in lines[-1]
    assert "60 rejected by the budget" in lines[-1]
    assert "2 failed" in lines[-1]
    assert "front of 18," in lines[-1]
    assert "left" in lines[-2]
    assert "left" not in lines[-1]


def test_a_search_that_goes_on_starts_with_what_it_has(capsys):
    with live_view(TRIALS) as view:
        watch([view], 11, 12)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("10 of 20 candidates are there; under 2.000 ms: best 60.0 %")
    assert second.startswith("12 of 20 candidates; under 2.000 ms: best 62.0 %")


def test_nothing_found_under_a_budget_is_said(capsys):
    with live_view(TRIALS) as view:
        watch([view], 1, 2, budgets_ms=(2.0, 0.01))
    assert "under 0.010 ms: nothing yet" in capsys.readouterr().out


def test_a_terminal_has_one_display_that_stays(terminal, capsys):
    with live_view(TRIALS) as view:
        watch([view], 1, TRIALS)
    last = terminal.getvalue().rpartition("candidates")[2]
    assert "20/20" in last
    assert "under 0.500 ms: best 59.0 % at 0.450 ms predicted" in last
    assert "60 rejected by the budget, 2 failed" in last
    assert "candidate 120: 70.0 % at 1.000 ms predicted" in last
    assert capsys.readouterr().out == ""


def curves(folder):
    read = EventAccumulator(str(folder / FOLDER))
    read.Reload()
    return {
        name: [(point.step, round(point.value, 4)) for point in read.Scalars(name)] for name in read.Tags()["scalars"]
    }


def test_tensorboard_has_the_curves_of_the_whole_search_also_after_it_was_stopped(tmp_path):
    for first, last in ((1, 12), (13, TRIALS)):
        with scalars(tmp_path) as written:
            found = watch([written], first, last)
    read = curves(tmp_path)
    succeeded = [done for done in range(1, TRIALS + 1) if done % 7]
    assert read["candidate/accuracy"] == [(done, 50.0 + done) for done in succeeded]
    assert read["candidate/predicted_ms"] == [(done, round(0.05 * done, 4)) for done in succeeded]
    assert read["best/under_2_ms"] == read["candidate/accuracy"]
    assert read["best/under_0.5_ms"] == [(done, 50.0 + min(done, 9)) for done in succeeded]
    assert [volume for _, volume in read["front/hypervolume"]] == pytest.approx(
        found.progress["hypervolume"].tolist(), abs=1e-3
    )
