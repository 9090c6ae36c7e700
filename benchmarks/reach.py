"""The whole zoo, dense, against ONNX Runtime, and its memory: python -m benchmarks.reach [--networks ...]"""

from __future__ import annotations

import pandas as pd

from benchmarks.command_line import common, peers_parser
from benchmarks.competitors import OURS, Competitor, load_peers, ours, timed
from benchmarks.machine import machine_facts
from benchmarks.measure import Budget, Times, measure, one_core
from benchmarks.peers import Peer, find_peers
from benchmarks.tables import write_table
from benchmarks.zoo import ZOO, make_network

PEERS = ["onnxruntime"]
QUICK_NETWORKS = ["cifar_resnet20", "espcn", "gru_classifier"]


def measure_network(name: str, peers: list[Peer], budget: Budget) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row a runtime, all measured in the same rounds, and the reasons of the peers that are missing."""
    model, image = make_network(name)
    competitors, refused = load_peers(peers, model, image)
    competitors[OURS] = ours(model, image)
    times = measure({runtime: competitor.run for runtime, competitor in competitors.items()}, budget)
    table = pd.DataFrame([_row(name, runtime, competitors[runtime], times[runtime]) for runtime in competitors])
    best = table.loc[table["runtime"] != OURS, "measured_ms"].min()
    return table.assign(speedup=best / table["measured_ms"]), refused


def _row(network: str, runtime: str, competitor: Competitor, times: Times) -> dict[str, object]:
    row: dict[str, object] = {"network": network, "runtime": runtime, **timed(competitor, times)}
    if (compiled := competitor.compiled) is not None:
        row |= {"arena_bytes": compiled.arena_bytes, "live_bytes": compiled.listing.live_bytes}
    return row


def main() -> None:
    made = peers_parser(__doc__)
    made.set_defaults(peers=PEERS)
    made.add_argument("--networks", nargs="+", choices=list(ZOO), metavar="NETWORK", help=f"of {', '.join(ZOO)}")
    arguments = made.parse_args()
    told = common(arguments)
    networks: list[str] = arguments.networks or (QUICK_NETWORKS if told.quick else list(ZOO))
    peers = find_peers(told.peers)
    tables: list[pd.DataFrame] = []
    with one_core():
        facts = machine_facts()
        for name in networks:
            table, refused = measure_network(name, peers, told.budget)
            print(f"\n{ZOO[name].title}\n{table.drop(columns='network').to_string(index=False, na_rep='')}", flush=True)
            facts |= {f"not measured on {name}, {peer}": reason for peer, reason in refused.items()}
            tables.append(table)
            write_table(told.folder / "reach.csv", pd.concat(tables), facts)


if __name__ == "__main__":
    main()
