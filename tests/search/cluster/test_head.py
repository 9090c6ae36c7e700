"""A head that is killed in the middle of a search, and one that takes its place."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from latency_model import NetworkPrediction
from search import Evaluation, Search
from search.cluster.ray import RayCluster
from search.errors import HeadLost
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]
Predicted = Callable[[Candidate], NetworkPrediction]
TRIALS = 10


HEAD = """
import sys
from ray.cluster_utils import Cluster

settings = {"num_cpus": 2, "resources": {"npas_device:made": 1}, "include_dashboard": False}
nodes = Cluster(initialize_head=True, head_node_args={"gcs_server_port": int(sys.argv[1]), **settings})
print(nodes.address, flush=True)
sys.stdin.read()
nodes.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
"""
"""A head until the process's input ends; then it is killed."""


class Machine:
    """One that runs the head, always at the same address."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", HEAD, str(self._port)]
        self._head = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._head.stdout is not None
        self.address = self._head.stdout.readline().strip()

    def kill(self) -> None:
        self._head.communicate("")

    def restart(self) -> None:
        """Kill the head; another one is started in the background."""
        self.kill()
        threading.Thread(target=self.start).start()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    ray.shutdown()
    machine = Machine()
    yield machine
    ray.shutdown()
    machine.kill()


@pytest.fixture
def make(
    machine: Machine, toy: SearchSpace, predicted: Predicted, accuracy: Function, tmp_path: Path
) -> Callable[[float], Search]:
    """A search whose evaluations leave a file each when they begin."""
    called = tmp_path / "called"
    called.mkdir()

    def evaluator(candidate: Candidate) -> float:
        (called / uuid.uuid4().hex).write_text(candidate.to_json())
        time.sleep(0.3)
        return accuracy(candidate)

    def make(reconnect_s: float) -> Search:
        return Search(
            toy,
            evaluator,
            predicted,
            1.5,
            tmp_path / "study.db",
            sampler="random",
            trials=TRIALS,
            cluster=RayCluster(address=machine.address, device="made", parallel=2, reconnect_s=reconnect_s),
        )

    return make


def test_a_search_goes_on_with_the_head_that_comes_back(
    machine: Machine, make: Callable[[float], Search], accuracy: Function, tmp_path: Path
) -> None:
    finished: list[str] = []

    def kill(evaluation: Evaluation) -> None:
        finished.append(evaluation.candidate.to_json())
        if len(finished) == 4:
            machine.restart()

    result = make(60.0).run(kill)
    assert sorted(finished) == sorted(result.trials["candidate"])
    assert len(set(finished)) == TRIALS
    assert result.trials["failure"].isna().all()
    assert list(result.trials["accuracy"]) == [
        accuracy(Candidate.from_json(text)) for text in result.trials["candidate"]
    ]
    calls = Counter(path.read_text() for path in (tmp_path / "called").iterdir())
    assert set(calls) == set(finished)
    assert all(calls[candidate] == 1 for candidate in finished[:4])


def test_without_a_wait_the_same_search_goes_on_later(machine: Machine, make: Callable[[float], Search]) -> None:
    finished: list[str] = []

    def kill(evaluation: Evaluation) -> None:
        finished.append(evaluation.candidate.to_json())
        if len(finished) == 3:
            machine.kill()

    with pytest.raises(HeadLost, match=r"cluster\.reconnect_s=0.*the same command goes on"):
        make(0.0).run(kill)
    assert 3 <= len(finished) < TRIALS
    before = list(finished)
    machine.start()
    result = make(0.0).run(lambda evaluation: finished.append(evaluation.candidate.to_json()))
    assert len(finished) == len(set(finished)) == TRIALS
    assert set(before) < set(result.trials["candidate"])


def test_what_was_asked_of_the_device_is_asked_again(machine: Machine, tmp_path: Path) -> None:
    cluster = RayCluster(address=machine.address, device="made", reconnect_s=60.0)

    def measure() -> int:
        begun = tmp_path / "begun"
        if begun.exists():
            return 2
        begun.touch()
        time.sleep(600)
        return 1

    def kill_when_begun() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.1)
        machine.restart()

    threading.Thread(target=kill_when_begun).start()
    assert cluster.on_device(measure) == 2
