import json
import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.errors import RecordCorrupt
from scripts.shortlist import Entry, Shortlist, preference
from search import pareto_front

LIMIT = (math.inf,)


def entry(number, accuracy=None, measured_ms=1.0):
    winner = None if accuracy is None else number
    return Entry(f'["{number}"]', 90.0, 1.0, measured_ms, 4.0, 2.0, 0, True, winner, accuracy)


tables = st.lists(
    st.tuples(st.integers(0, 12).map(float), st.integers(1, 12).map(lambda step: 0.1 * step)), min_size=1, max_size=15
).map(lambda rows: pd.DataFrame(rows, columns=["accuracy", "predicted_ms"]))


@given(tables)
def test_every_candidate_is_tried_once(trials):
    assert sorted(preference(trials, LIMIT)) == sorted(trials.index)


@given(tables)
def test_the_front_is_descended_in_steps_before_the_rest(trials):
    order = preference(trials, LIMIT)
    front = pareto_front(trials, maximise="accuracy", minimise="predicted_ms")
    latency = trials["predicted_ms"]
    steps = [order[0]]
    for row in order[1:]:
        if row not in front.index or latency[row] > 5 / 6 * latency[steps[-1]]:
            break
        steps.append(row)
    # every member of the front is near one of the steps: at most a sixth faster
    for row in front.index:
        assert any(5 / 6 * latency[step] < latency[row] <= latency[step] for step in steps)


@given(tables)
def test_the_most_accurate_leads(trials):
    first = trials.loc[preference(trials, LIMIT)[0]]
    assert first["accuracy"] == trials["accuracy"].max()
    assert first["predicted_ms"] == trials[trials["accuracy"] == first["accuracy"]]["predicted_ms"].min()


def test_twins_wait():
    accuracy, latency = [95.0, 94.0, 90.0, 80.0, 70.0, 85.0], [4.0, 3.9, 3.0, 2.9, 1.0, 3.5]
    trials = pd.DataFrame({"accuracy": accuracy, "predicted_ms": latency})
    assert preference(trials, LIMIT) == [0, 2, 4, 1, 5, 3]


@given(tables, st.lists(st.floats(0.1, 1.3), min_size=1, max_size=4, unique=True))
def test_the_most_accurate_under_each_limit_lead(trials, limits):
    order, led = preference(trials, limits), []
    for limit in sorted(limits, reverse=True):
        under = trials[trials["predicted_ms"] <= limit]
        if len(under):
            led.append(under.sort_values(["accuracy", "predicted_ms"], ascending=[False, True], kind="stable").index[0])
    assert order[: len(set(led))] == list(dict.fromkeys(led))
    assert sorted(order) == sorted(trials.index)


def test_the_smallest_budget_must_be_served_too(tmp_path):
    shortlist = Shortlist(tmp_path / "shortlist.json")
    for number in (1, 2, 3):
        shortlist.add(entry(number, 100.0 - number, 3.0 - 0.5 * number))
    assert not shortlist.complete(at_least=3, at_most=6, pareto=3, budgets=2)
    shortlist.add(replace(entry(4, 90.0, 0.5), budget=1))
    assert shortlist.complete(at_least=3, at_most=6, pareto=3, budgets=2)


def test_entries_survive_in_the_file(tmp_path):
    path = tmp_path / "shortlist.json"
    first, second = entry(1), entry(2)
    shortlist = Shortlist(path)
    shortlist.add(first)
    shortlist.add(second)
    shortlist.take(second, 1, 97.5)
    read = Shortlist(path)
    assert read.entries == [first, Entry(second.candidate, 90.0, 1.0, 1.0, 4.0, 2.0, 0, True, 1, 97.5)]
    assert read.find(first.candidate) == first
    assert read.find("[]") is None
    assert [taken.winner for taken in read.taken] == [1]


@pytest.mark.parametrize(
    ("winners", "complete"),
    [
        ([], False),
        ([(99.0, 3.0), (98.0, 2.0)], False),  # too few
        ([(99.0, 3.0), (98.0, 2.0), (97.0, 1.0)], True),
        ([(99.0, 1.0), (98.0, 2.0), (97.0, 3.0)], False),  # one dominates all
        ([(99.0, 1.0), (98.0, 2.0), (97.0, 3.0), (96.0, 0.5), (95.0, 0.4)], True),
        ([(99.0, 1.0)] + [(90.0, 2.0 + step) for step in range(5)], True),  # as many as allowed
    ],
)
def test_when_enough_were_fine_tuned(tmp_path, winners, complete):
    shortlist = Shortlist(tmp_path / "shortlist.json")
    for number, (accuracy, measured_ms) in enumerate(winners, start=1):
        shortlist.add(entry(number, accuracy, measured_ms))
    shortlist.add(entry(99))
    assert shortlist.complete(at_least=3, at_most=6, pareto=3) is complete


def test_a_slow_moment_of_the_machine_makes_no_winner_slower(tmp_path):
    shortlist = Shortlist(tmp_path / "shortlist.json")
    shortlist.add(Entry("[1]", 90.0, 1.0, 1.0, 4.0, 2.0, 0, True, 1, 98.0))
    shortlist.add(Entry("[2]", 90.0, 1.0, 1.2, 6.0, 3.0, 0, True, 2, 99.0))  # on a machine that was half as fast
    assert not shortlist.complete(at_least=2, at_most=9, pareto=2)


@pytest.mark.parametrize("content", ["[", "[1", json.dumps([{"candidate": "x"}])])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "shortlist.json"
    path.write_text(content)
    with pytest.raises(RecordCorrupt, match=r"shortlist\.json"):
        Shortlist(path)
