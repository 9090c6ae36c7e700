"""Pictures of the measured tables, written beside them: python -m benchmarks.plots [--results FOLDER]"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.competitors import OURS
from benchmarks.layers import FAMILIES
from benchmarks.measure import geometric_mean
from benchmarks.peers import PEERS
from benchmarks.tables import RESULTS, read_table
from benchmarks.zoo import ZOO

OUR_COLOURS = {"dense": "#f4a582", "block_punched": "#d6604d", "block_kernel": "#8c1515"}
PEER_COLOURS = ("#1b4965", "#3a7ca5", "#62b6cb", "#98c1d9", "#bcb8b1", "#8a817c")


def speedup_by_rate(table: pd.DataFrame, family: str) -> Figure:
    """Times the best dense peer against the rate, a line a scheme; the dashed line is ideal."""
    rows = table[(table["runtime"] == OURS) & (table["family"] == family) & (table["scheme"] != "dense")]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for scheme, group in rows.groupby("scheme", sort=False):
        means = group.groupby("rate")["speedup"].apply(geometric_mean)
        axes.plot(means.index, means.to_numpy(), marker="o", markersize=4, label=str(scheme))
    rates = sorted(rows["rate"].unique())
    axes.plot(rates, rates, linestyle="--", color="grey", linewidth=1, label="rate")
    axes.set(xlabel="rate", ylabel="times the best dense runtime", title=FAMILIES[family])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def network_times(table: pd.DataFrame) -> Figure:
    """A group of bars a network: every runtime's time relative to the best peer's; shorter is better."""
    networks = list(dict.fromkeys(table["network"]))
    keys = list(table[["runtime", "scheme", "rate"]].drop_duplicates().itertuples(index=False, name=None))
    figure = Figure(figsize=(1.2 + 1.6 * len(networks), 4.2), layout="constrained")
    axes = figure.add_subplot()
    width = 0.85 / len(keys)
    for index, (runtime, scheme, rate) in enumerate(keys):
        rows = table[(table["runtime"] == runtime) & (table["scheme"] == scheme) & (table["rate"] == rate)]
        places = [networks.index(network) + (index - len(keys) / 2 + 0.5) * width for network in rows["network"]]
        label, colour = _look(runtime, scheme, rate)
        axes.bar(places, 1 / rows["speedup"].to_numpy(), width, label=label, color=colour)
    axes.set_xticks(range(len(networks)), [ZOO[network].title for network in networks], fontsize=8)
    axes.set(ylabel="time / best other runtime", ylim=(0, 3))
    axes.axhline(1, color="grey", linewidth=1, linestyle="--")
    axes.legend(fontsize=7)
    return figure


def _look(runtime: str, scheme: str, rate: float) -> tuple[str, str]:
    """Label and colour of one competitor."""
    if runtime != OURS:
        return PEERS[runtime].title, PEER_COLOURS[list(PEERS).index(runtime) % len(PEER_COLOURS)]
    return f"npas, {scheme}" + (f" {rate:g}x" if rate > 1 else ""), OUR_COLOURS.get(scheme, "black")


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    folder: Path = made.parse_args().results
    kernels, _ = read_table(folder / "kernels.csv")
    networks, _ = read_table(folder / "networks.csv")
    pictures = {"networks.png": network_times(networks)}
    for family in FAMILIES:
        if ((kernels["family"] == family) & (kernels["scheme"] != "dense")).any():
            pictures[f"kernels_{family}.png"] = speedup_by_rate(kernels, family)
    for name, figure in pictures.items():
        figure.savefig(folder / name, dpi=150)
        print(folder / name)


if __name__ == "__main__":
    main()
