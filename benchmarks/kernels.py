"""Single layers, dense and pruned, against other runtimes: python -m benchmarks.kernels [--quick] [--layers 3x3 ...]"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from benchmarks.command_line import common, peers_parser
from benchmarks.competitors import OURS, Competitor, load_peers, ours
from benchmarks.layers import FAMILIES, LAYERS, Layer, find_layers, surroundings
from benchmarks.machine import machine_facts
from benchmarks.measure import STEADY_US, Budget, Times, measure, median, one_core, spread
from benchmarks.peers import PEERS, Peer, find_peers
from benchmarks.tables import write_table
from pruning import Sparsity, make_scheme

SCHEMES = (
    "block_punched(32x4)",
    "block_punched(32x1)",
    "block_punched(16x4)",
    "block_punched(16x1)",
    "block_punched(8x4)",
    "block_kernel(32x1)",
    "block_kernel(16x1)",
    "pattern(4, share=16)",
    "pattern(4)",
    "unstructured",
)
NEAR = 0.05
"""A rate is measured if the scheme reaches it to within this share: patterns start at 2.25."""
RATES = (2.0, 3.0, 5.0, 7.0, 10.0)
QUICK_LAYERS = ["3x3 128@28", "1x1 576<>96@14", "depthwise 192@28"]
QUICK_SCHEMES = ["block_punched(32x1)", "block_kernel(32x1)", "unstructured"]


@dataclass(frozen=True)
class Case:
    """One row to measure: a runtime, and what the weights look like to it."""

    runtime: str
    sparsity: Sparsity
    rate: float


def sparsities(layer: Layer, schemes: list[str], rates: list[float]) -> Iterator[Sparsity]:
    """What the layer is pruned to: nothing if it is depthwise, whole kernels only where kernels have nine weights."""
    if layer.depthwise:
        return
    for text in schemes:
        scheme = make_scheme(text)
        if scheme.supports(layer.weight_shape) is None and (layer.kernel > 1 or scheme.name != "block_kernel"):
            groups = scheme.group_count(layer.weight_shape)
            reached = {rate: groups / scheme.kept_groups(layer.weight_shape, rate) for rate in rates}
            yield from (Sparsity(scheme, rate) for rate in rates if abs(reached[rate] / rate - 1) <= NEAR)


def load(
    layer: Layer, count: int, wanted: list[Sparsity], peers: list[Peer]
) -> tuple[dict[Case, Competitor], dict[str, str]]:
    """All competitors for `count` copies of a layer: ours dense and pruned, peers dense, since they ignore zeros."""
    network, image = surroundings(layer, count)
    loaded, refused = load_peers(peers, network, image)
    cases = {Case(name, Sparsity(), 1.0): competitor for name, competitor in loaded.items()}
    cases[Case(OURS, Sparsity(), 1.0)] = ours(network, image)
    for sparsity in wanted:
        network, image = surroundings(layer, count)
        rate = network.prune(sparsity)
        cases[Case(OURS, sparsity, rate)] = ours(network, image)
    return cases, refused


def measure_layer(
    layer: Layer, wanted: list[Sparsity], peers: list[Peer], budget: Budget
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row a competitor, all measured in the same rounds, and the reasons of the peers that are missing."""
    seldom, often = layer.counts
    few, _ = load(layer, seldom, wanted, peers)
    many, refused = load(layer, often, wanted, peers)
    pairs = {case: (few[case], many[case]) for case in many if case in few}
    runs = {f"{index}.{end}": pair[end].run for index, pair in enumerate(pairs.values()) for end in (0, 1)}
    times = measure(runs, replace(budget, sample_us=STEADY_US) if layer.depthwise else budget)
    rows = []
    for index, (case, (_, competitor)) in enumerate(pairs.items()):
        layer_times = times[f"{index}.1"].minus(times[f"{index}.0"], often - seldom)
        rows.append(_row(layer, case, competitor, layer_times))
    return with_ratios(pd.DataFrame(rows)), refused


def _row(layer: Layer, case: Case, competitor: Competitor, times: Times) -> dict[str, object]:
    us = median(times.cpu_us)
    form = ""
    if competitor.compiled is not None:
        table = competitor.compiled.kernels
        middle = table[table["op"].isin(["conv", "depthwise", "linear"])].iloc[-1]
        form = f"{middle['family']} {middle['form']} {middle['tile']}"
    direct = case.runtime in PEERS and not (PEERS[case.runtime].winograd and layer.winograd)
    return {
        "layer": layer.name,
        "family": layer.family,
        "runtime": case.runtime,
        "scheme": str(case.sparsity.scheme),
        "rate": case.sparsity.rate,
        "effective_rate": case.rate,
        "measured_us": us,
        "spread": spread(times.cpu_us),
        "wall_us": median(times.wall_us),
        "rounds": len(times.cpu_us),
        "gflops": layer.flops / us / 1e3,
        "direct_peer": direct,
        "form": form,
        "error": competitor.error,
    }


def with_ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Adds to the rows of one layer what they are worth against its peers; NaN where there is no peer.

    `speedup`: time of the best dense peer over the row's; `share_of_ideal`: time of the best dense peer that computes
    directly (not by Winograd's method), divided by the rate, over the row's.
    """
    peers = rows[rows["runtime"] != OURS]
    best = peers["measured_us"].min()
    direct = peers.loc[peers["direct_peer"], "measured_us"].min()
    return rows.assign(
        speedup=best / rows["measured_us"],
        share_of_ideal=direct / rows["effective_rate"] / rows["measured_us"],
    )


def main() -> None:
    made = peers_parser(__doc__)
    made.add_argument("--layers", nargs="+", metavar="LAYER", help=f"of {', '.join([*FAMILIES, *LAYERS])}")
    made.add_argument("--schemes", nargs="*", metavar="SCHEME", help=f"default: {' '.join(SCHEMES)}")
    made.add_argument("--rates", nargs="*", type=float, metavar="RATE", help=f"default: {RATES}")
    arguments = made.parse_args()
    told = common(arguments)
    layers = find_layers(arguments.layers or (QUICK_LAYERS if told.quick else list(LAYERS)))
    schemes = arguments.schemes if arguments.schemes is not None else QUICK_SCHEMES if told.quick else list(SCHEMES)
    rates = arguments.rates if arguments.rates is not None else [2.0, 5.0] if told.quick else list(RATES)
    peers = find_peers(told.peers)
    tables: list[pd.DataFrame] = []
    with one_core():
        facts = machine_facts()
        for layer in layers:
            table, refused = measure_layer(layer, list(sparsities(layer, schemes, rates)), peers, told.budget)
            print(f"\n{layer.name}\n{table.drop(columns=['layer', 'family', 'direct_peer']).to_string(index=False)}")
            facts |= {f"not measured on {layer.name}, {name}": reason for name, reason in refused.items()}
            tables.append(table)
            write_table(told.folder / "kernels.csv", pd.concat(tables), facts)


if __name__ == "__main__":
    main()
