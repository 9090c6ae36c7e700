import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.errors import RecordCorrupt
from scripts.shortlist import Entry, Shortlist, preference
from search import pareto_front


def entry(number, accuracy=None, measured_ms=1.0):
    winner = None if accuracy is None else number
    return Entry(f'["{number}"]', 90.0, 1.0, measured_ms, 2.0, True, winner, accuracy)


tables = st.lists(
    st.tuples(st.integers(0, 12).map(float), st.integers(1, 12).map(lambda step: 0.1 * step)), min_size=1, max_size=15
).map(lambda rows: pd.DataFrame(rows, columns=["accuracy", "predicted_ms"]))


@given(tables)
def test_every_candidate_is_tried_once_and_the_front_before_the_rest(trials):
    order = preference(trials)
    assert sorted(order) == sorted(trials.index)
    front = set(pareto_front(trials, maximise="accuracy", minimise="predicted_ms").index)
    places = [place for place, row in enumerate(order) if row in front]
    assert max(places) < len(front) + 2


@given(tables)
def test_the_most_accurate_leads(trials):
    first = trials.loc[preference(trials)[0]]
    assert first["accuracy"] == trials["accuracy"].max()
    assert first["predicted_ms"] == trials[trials["accuracy"] == first["accuracy"]]["predicted_ms"].min()


def test_the_front_is_spanned_by_its_ends_first():
    latencies = [1.0, 1.1, 1.2, 2.0, 3.8, 4.0]
    trials = pd.DataFrame({"accuracy": [50.0, 60.0, 70.0, 80.0, 90.0, 95.0], "predicted_ms": latencies})
    assert preference(trials)[:4] == [5, 4, 0, 3]
    assert abs(math.log(2.0) - math.log(1.0)) > abs(math.log(1.2) - math.log(1.0))


def test_entries_survive_in_the_file(tmp_path):
    path = tmp_path / "shortlist.json"
    first, second = entry(1), entry(2)
    shortlist = Shortlist(path)
    shortlist.add(first)
    shortlist.add(second)
    shortlist.take(second, 1, 97.5)
    read = Shortlist(path)
    assert read.entries == [first, Entry(second.candidate, 90.0, 1.0, 1.0, 2.0, True, 1, 97.5)]
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


@pytest.mark.parametrize("content", ["[", "[1", json.dumps([{"candidate": "x"}])])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "shortlist.json"
    path.write_text(content)
    with pytest.raises(RecordCorrupt, match=r"shortlist\.json"):
        Shortlist(path)
