from __future__ import annotations

import math
import sys

import pytest

from search.cluster import LocalCluster, Outcome, make_cluster
from search.errors import EvaluationFailed, InvalidCluster, RayNotInstalled
from supernet import Candidate, SearchSpace


def test_the_local_cluster_evaluates_in_the_order_of_submission(toy: SearchSpace) -> None:
    first, second = toy.smallest(), toy.largest()
    asked: list[Candidate] = []

    def evaluator(candidate: Candidate) -> float:
        asked.append(candidate)
        return float(len(asked))

    cluster = make_cluster({"driver": "local"})
    cluster.check(1)
    with cluster.workers(evaluator, 2) as workers:
        assert workers.parallel == 1
        workers.submit(7, first)
        workers.submit(8, second)
        assert asked == []
        assert [workers.next(), workers.next()] == [Outcome(7, 1.0), Outcome(8, 2.0)]
    assert asked == [first, second]
    assert cluster.on_device(divmod, 7, 2) == (3, 1)


def test_a_failure_is_an_outcome_and_a_mistake_is_not(toy: SearchSpace) -> None:
    def failing(candidate: Candidate) -> float:
        raise EvaluationFailed("the loss is nan")

    def wrong(candidate: Candidate) -> float:
        raise KeyError("site")

    outcome = Outcome.of(failing, 3, toy.smallest())
    assert math.isnan(outcome.accuracy)
    assert (outcome.number, outcome.failure) == (3, "the loss is nan")
    assert Outcome.of(lambda candidate: math.inf, 3, toy.smallest()).failure == "the accuracy is inf"
    with pytest.raises(KeyError):
        Outcome.of(wrong, 3, toy.smallest())


def test_unknown_drivers_and_settings_are_refused() -> None:
    with pytest.raises(InvalidCluster, match=r"'slurm'.*local, ray"):
        make_cluster({"driver": "slurm"})
    with pytest.raises(InvalidCluster, match="address"):
        make_cluster({"driver": "local", "address": "head:6379"})
    assert isinstance(make_cluster({"driver": "local"}), LocalCluster)


def test_without_ray_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "search.cluster.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayNotInstalled, match=r"pip install 'npas\[ray\]'"):
        make_cluster({"driver": "ray"})
