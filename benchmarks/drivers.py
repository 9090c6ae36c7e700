"""What the drivers cost: python -m benchmarks.drivers [--quick]

Overhead: seconds of a whole search over its trials, whose evaluations take no time, by `random` in the space `tiny`;
what the sampler itself takes is told beside it. Scaling: evaluations that sleep for one second, on eight simulated
workers of a Ray cluster on this machine; the time counts from when the workers are there, which takes seconds.
Efficiency is the time that the evaluations need at least, over the time that they took.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import yaml

from benchmarks.command_line import brief_parser, common
from benchmarks.machine import machine_facts
from benchmarks.tables import write_table
from latency_model import NetworkPrediction
from search import Search
from search.cluster import Cluster, Evaluator, LocalCluster, Workers
from search.cluster.actors import RayWorkers
from search.cluster.ray import RayCluster
from search.history import History
from supernet import Candidate, SearchSpace, make_space

SPACE = Path(__file__).parents[1] / "conf" / "space" / "tiny.yaml"
PARALLEL = 8
SLEEP_S = 1.0


def latency(candidate: Candidate) -> NetworkPrediction:
    """Without an interval: a tenth of a millisecond, and a share of one for each site."""
    return NetworkPrediction(*3 * [0.1 + sum(1 / choice.sparsity.rate for choice in candidate.choices)])


def instant(candidate: Candidate) -> float:
    """An accuracy that is there at once."""
    return 50.0 + latency(candidate).mean_ms


def sleeping(candidate: Candidate) -> float:
    """The same after a second."""
    time.sleep(SLEEP_S)
    return instant(candidate)


class Warm(Cluster):
    """A cluster whose workers are all there before the clock starts."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.started = math.nan

    def check(self, trials: int) -> None:
        self._cluster.check(trials)

    @contextmanager
    def workers(self, evaluator: Evaluator, trials: int) -> Iterator[Workers]:
        with self._cluster.workers(evaluator, trials) as workers:
            if isinstance(workers, RayWorkers):
                workers.wait()
            self.started = time.perf_counter()
            yield workers

    def on_device(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._cluster.on_device(function, *arguments)


def measure(space: SearchSpace, cluster: Cluster, evaluator: Evaluator, trials: int) -> float:
    """Seconds of a search, from when its workers are there."""
    warm = Warm(cluster)
    with tempfile.TemporaryDirectory() as folder:
        search = Search(
            space, evaluator, latency, 4.0, Path(folder) / "study.db", sampler="random", trials=trials, cluster=warm
        )
        found = len(search.run().trials)
    assert found == trials
    return time.perf_counter() - warm.started


def proposal_s(space: SearchSpace, trials: int) -> float:
    """Seconds that the sampler takes for a proposal, without any study."""
    search = Search(space, instant, latency, 4.0, "unused", sampler="random", trials=trials)
    start = time.perf_counter()
    for number in range(trials):
        search.sampler.propose(History(), np.random.default_rng(number))
    return (time.perf_counter() - start) / trials


def main() -> None:
    told = common(brief_parser(__doc__).parse_args())
    trials, rounds = (100, 3) if told.quick else (1000, 10)
    space = make_space(yaml.safe_load(SPACE.read_text()), (1, 32, 32), 10)
    facts = {**machine_facts(), "ray": version("ray"), "proposal_ms": f"{1e3 * proposal_s(space, trials):.2f}"}
    ray.init(num_cpus=PARALLEL, include_dashboard=False, log_to_driver=False)
    cases = [
        ("overhead", "local", LocalCluster(), instant, trials, 1),
        ("overhead", "ray", RayCluster(parallel=1), instant, trials, 1),
        ("overhead", "ray", RayCluster(parallel=PARALLEL), instant, trials, PARALLEL),
        ("scaling", "ray", RayCluster(parallel=PARALLEL), sleeping, rounds * PARALLEL, PARALLEL),
    ]
    rows = []
    for what, driver, cluster, evaluator, count, parallel in cases:
        seconds = measure(space, cluster, evaluator, count)
        least_s = SLEEP_S * count / parallel if evaluator is sleeping else math.nan
        rows.append(
            {
                "what": what,
                "driver": driver,
                "parallel": parallel,
                "trials": count,
                "seconds": seconds,
                "ms_a_trial": 1e3 * seconds / count,
                "efficiency": least_s / seconds,
            }
        )
        print(rows[-1], flush=True)
    write_table(told.folder / "drivers.csv", pd.DataFrame(rows), facts)


if __name__ == "__main__":
    main()
