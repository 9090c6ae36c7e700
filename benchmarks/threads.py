"""Dense networks on one thread and on several, in turn: python -m benchmarks.threads [--quick] [--networks ...]

All threads go where the system puts them, and what counts is the time on the wall. Every sample is a row of runs
without a pause, as long as 20 milliseconds: a team that has just run waits actively for a millisecond, which must not
count for who is timed next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from benchmarks.command_line import common, timing_parser
from benchmarks.competitors import expected
from benchmarks.machine import machine_facts
from benchmarks.measure import Budget, measure, median, quiet, relative_error, spread
from benchmarks.tables import write_table
from benchmarks.zoo import ZOO, make_network
from compiler import compile_model

NETWORKS = ("resnet50", "mobilenet_v2", "cifar_resnet20")
QUICK_NETWORKS = ("mobilenet_v2", "cifar_resnet20")
SAMPLE_US = 20_000.0


def measure_network(name: str, threads: Sequence[int], budget: Budget) -> pd.DataFrame:
    """A row a number of threads, all measured in the same rounds.

    `threads` is what was asked for; `shared` how many of the network's `kernels` run on more than one.
    """
    model, image = make_network(name)
    networks = {count: compile_model(model, image, threads=count) for count in threads}
    times = measure({str(count): network.run_once() for count, network in networks.items()}, budget)
    rows = [
        {
            "network": name,
            "threads": count,
            "measured_ms": median(times[str(count)].wall_us) / 1e3,
            "spread": spread(times[str(count)].wall_us),
            "cpu_ms": median(times[str(count)].cpu_us) / 1e3,
            "rounds": len(times[str(count)].wall_us),
            "error": relative_error(network(image).numpy(), expected(model, image)),
            "kernels": len(network.kernels),
            "shared": int((network.kernels["threads"] > 1).sum()),
        }
        for count, network in networks.items()
    ]
    table = pd.DataFrame(rows)
    return table.assign(speedup=table["measured_ms"].iloc[0] / table["measured_ms"])


def main() -> None:
    made = timing_parser(__doc__)
    made.add_argument("--networks", nargs="+", choices=list(ZOO), metavar="NETWORK", help=f"of {', '.join(ZOO)}")
    made.add_argument("--threads", nargs="+", type=int, default=[2], help="numbers of threads, beside one")
    arguments = made.parse_args()
    told = common(arguments)
    budget = replace(told.budget, sample_us=SAMPLE_US)
    tables: list[pd.DataFrame] = []
    with quiet():
        facts = machine_facts()
        for name in arguments.networks or (QUICK_NETWORKS if told.quick else NETWORKS):
            table = measure_network(name, [1, *arguments.threads], budget)
            print(f"\n{ZOO[name].title}\n{table.drop(columns='network').to_string(index=False)}")
            tables.append(table)
            write_table(told.folder / "threads.csv", pd.concat(tables), facts)


if __name__ == "__main__":
    main()
