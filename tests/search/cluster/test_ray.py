"""A Ray cluster of several nodes on this machine; one for all tests, as it takes seconds to start."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster as Nodes

from compiler import KernelSpec
from latency_model import NetworkPrediction, load_device
from search import Evaluation, Search
from search.cluster.holder import Holder
from search.cluster.ray import RayCluster
from search.cluster.runner import device_on
from search.errors import (
    ClusterMismatch,
    ClusterNotFound,
    DeviceNodeMissing,
    InvalidCluster,
    TooManyWorkers,
)
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]
Predicted = Callable[[Candidate], NetworkPrediction]
Connect = Callable[..., RayCluster]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A head that evaluates nothing, and a node with two processors and a device."""
    started = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    started.add_node(num_cpus=2, resources={"npas_device:made": 1})
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture(scope="module")
def connect(nodes: Nodes) -> Connect:
    def cluster(**settings: Any) -> RayCluster:
        return RayCluster(**{"address": nodes.address, "patience_s": 240.0, "device": "made", **settings})

    return cluster


Make = Callable[..., Search]


@pytest.fixture
def make(toy: SearchSpace, predicted: Predicted, accuracy: Function, tmp_path: Path, connect: Connect) -> Make:
    def search(evaluator: Function = accuracy, trials: int = 12, **settings: Any) -> Search:
        return Search(
            toy,
            evaluator,
            predicted,
            1.5,
            tmp_path / "study.db",
            sampler="random",
            trials=trials,
            cluster=connect(**settings),
        )

    return search


def test_workers_hold_the_evaluator_once_and_evaluate_every_trial_once(
    make: Make, accuracy: Function, tmp_path: Path
) -> None:
    class Counted:
        """Leaves a file for each time that it arrives in a process, and for each call."""

        def __setstate__(self, state: dict[str, Any]) -> None:
            (tmp_path / f"arrived-{os.getpid()}-{uuid.uuid4().hex}").touch()

        def __getstate__(self) -> dict[str, Any]:
            return {"something": 1}

        def __call__(self, candidate: Candidate) -> float:
            (tmp_path / f"called-{os.getpid()}-{uuid.uuid4().hex}").touch()
            return accuracy(candidate)

    shown: list[Evaluation] = []
    result = make(Counted()).run(shown.append)
    assert [evaluation.done for evaluation in shown] == list(range(1, 13))
    assert result.trials["candidate"].is_unique
    candidates = [Candidate.from_json(text) for text in result.trials["candidate"]]
    assert list(result.trials["accuracy"]) == [accuracy(candidate) for candidate in candidates]
    assert len(list(tmp_path.glob("called-*"))) == 12
    processes = [path.name.split("-")[1] for path in tmp_path.glob("arrived-*")]
    assert len(processes) == len(set(processes)) <= 2
    assert str(os.getpid()) not in processes
    extended = make(accuracy, trials=14, parallel=1).run()
    assert list(extended.trials["candidate"][:12]) == list(result.trials["candidate"])
    assert len(extended.trials) == 14


def test_a_candidate_that_kills_its_workers_fails_and_all_others_are_evaluated(
    make: Make, accuracy: Function, tmp_path: Path
) -> None:
    first = tmp_path / "first"

    def evaluator(candidate: Candidate) -> float:
        if not first.exists():
            first.write_text(candidate.to_json())
        if first.read_text() == candidate.to_json():
            os._exit(1)
        return accuracy(candidate)

    result = make(evaluator, trials=4, parallel=1).run()
    assert result.trials["candidate"].iloc[0] == first.read_text()
    assert list(result.trials["failure"].fillna("")) == ["3 workers died while they evaluated it", "", "", ""]
    candidates = [Candidate.from_json(text) for text in result.trials["candidate"]]
    assert list(result.trials["accuracy"])[1:] == [accuracy(candidate) for candidate in candidates[1:]]


def test_all_trials_finish_when_a_node_is_killed(nodes: Nodes, make: Make, accuracy: Function, tmp_path: Path) -> None:
    doomed = nodes.add_node(num_cpus=2, resources={"doomed": 1})
    doomed_id = doomed.node_id

    def evaluator(candidate: Candidate) -> float:
        import ray

        (tmp_path / f"on-{ray.get_runtime_context().get_node_id()}-{uuid.uuid4().hex}").touch()
        time.sleep(0.2)
        return accuracy(candidate)

    removed: list[int] = []

    def kill(evaluation: Evaluation) -> None:
        if not removed and list(tmp_path.glob(f"on-{doomed_id}-*")):
            nodes.remove_node(doomed, allow_graceful=False)
            removed.append(evaluation.done)

    result = make(evaluator, trials=24, parallel=4).run(kill)
    assert removed
    assert removed[0] < 20
    assert len(result.trials) == 24
    assert result.trials["candidate"].is_unique
    assert result.trials["failure"].isna().all()


def test_the_device_is_asked_where_it_is_and_once_at_a_time(nodes: Nodes, connect: Connect, tmp_path: Path) -> None:
    def measure(name: str) -> str:
        import ray

        taken = tmp_path / "taken"
        taken.touch(exist_ok=False)
        time.sleep(0.3)
        taken.unlink()
        return str(ray.get_runtime_context().get_node_id())

    cluster = connect()
    owner = next(node["NodeID"] for node in ray.nodes() if "npas_device:made" in node["Resources"])
    assert cluster.on_device(measure, "alone") == owner
    task = ray.remote(num_cpus=0, resources={cluster.resource: 1})(measure)
    beside = [task.remote("beside") for _ in range(2)]
    assert cluster.on_device(measure, "third") == owner
    assert ray.get(beside) == [owner, owner]
    with pytest.raises(DeviceNodeMissing, match=r"npas_device:phone \(devices there: npas_device:made\).*ray start"):
        connect(device="phone").on_device(measure, "nowhere")


def test_kernels_are_timed_on_the_node_of_the_device(connect: Connect) -> None:
    device = device_on(connect(), {"name": "made"})
    here = load_device("local")
    assert device.target == here.target
    assert device.environment() == replace(here.environment(), device="made")
    spec = KernelSpec("conv", 8, 8, 8, 8, (3, 3), padding=(1, 1))
    assert (device.runner.measure([spec], device.target, seconds=0.02, seed=0).kernel_us > 0).all()


def test_errors_on_another_machine_arrive_as_what_they_are(make: Make, connect: Connect) -> None:
    def wrong(candidate: Candidate) -> float:
        raise KeyError("site")

    with pytest.raises(KeyError, match="site"):
        make(wrong, parallel=1).run()
    with pytest.raises(ZeroDivisionError):
        connect().on_device(divmod, 1, 0)


def test_bad_settings_are_refused_before_anything_starts(make: Make, tmp_path: Path) -> None:
    with pytest.raises(TooManyWorkers, match=r"parallel=5.*trials=4"):
        make(trials=4, parallel=5).run()
    with pytest.raises(InvalidCluster, match="cpus=0"):
        make(cpus=0)
    assert not list(tmp_path.glob("*.db-wal"))


def test_an_address_without_a_cluster_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterNotFound, match=r"127\.0\.0\.1:1\b"):
        RayCluster(address="127.0.0.1:1").check(10)
    with pytest.raises(ClusterNotFound, match=r"127\.0\.0\.1:1\b"):
        RayCluster(address="127.0.0.1:1").head.join()


def test_nodes_with_other_versions_are_refused() -> None:
    with pytest.raises(ClusterMismatch, match=r"torch .* there and 1\.0 here"):
        Holder().take(lambda candidate: 0.0, {"torch": "1.0"})
