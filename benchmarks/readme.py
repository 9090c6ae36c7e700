"""The tables of the README, from the measured ones: python -m benchmarks.readme [--results FOLDER]"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from benchmarks.competitors import OURS
from benchmarks.layers import FAMILIES, LAYERS
from benchmarks.measure import geometric_mean
from benchmarks.nasbench201 import DEVICES
from benchmarks.peers import PEERS
from benchmarks.search import EXACT, METHODS, PREDICTED, QUANTILES
from benchmarks.tables import RESULTS, read_table
from benchmarks.zoo import ZOO

TITLES = {"block_punched": "blocks", "block_kernel": "whole kernels"}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, its first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def network_table(table: pd.DataFrame) -> str:
    """A row a network: milliseconds of every runtime, ours dense and pruned; in brackets times the best peer."""
    peers = [name for name in PEERS if (table["runtime"] == name).any()]
    ours = table[table["runtime"] == OURS]
    forms = list(ours[["scheme", "rate"]].drop_duplicates().itertuples(index=False, name=None))
    header = ["ms", *(PEERS[name].title for name in peers), *(f"npas {_form(*form)}" for form in forms)]
    rows = []
    for network, group in table.groupby("network", sort=False):
        line = [ZOO[str(network)].title]
        line += [_cell(group[group["runtime"] == name]) for name in peers]
        of_ours = group[group["runtime"] == OURS]
        for scheme, rate in forms:
            line.append(_cell(of_ours[(of_ours["scheme"] == scheme) & (of_ours["rate"] == rate)], bold=True))
        rows.append(line)
    return markdown(header, rows)


def _form(scheme: str, rate: float) -> str:
    return "dense" if scheme == "dense" else f"{TITLES[scheme]} {rate:g}x"


def _cell(rows: pd.DataFrame, *, bold: bool = False) -> str:
    if rows.empty:
        return "–"
    ms, speedup = float(rows["measured_ms"].iloc[0]), float(rows["speedup"].iloc[0])
    return f"**{ms:.3g}** ({speedup:.2f}x)" if bold else f"{ms:.3g}"


def dense_table(table: pd.DataFrame) -> str:
    """A row a layer: billions of dense operations a second of every runtime."""
    dense = table[table["scheme"] == "dense"]
    runtimes = [name for name in (*PEERS, OURS) if (dense["runtime"] == name).any()]
    wide = dense.pivot_table(index="layer", columns="runtime", values="gflops")
    layers = [name for name in LAYERS if name in wide.index]
    header = ["GF/s, dense", *(PEERS[name].title if name in PEERS else name for name in runtimes)]
    rows = []
    for layer in layers:
        values = [wide.loc[layer].get(name, float("nan")) for name in runtimes]
        rows.append([layer, *("–" if pd.isna(value) else f"{value:.0f}" for value in values)])
    return markdown(header, rows)


def sparse_table(table: pd.DataFrame, family: str) -> str:
    """A row a scheme: times the best dense peer at every rate, a geometric mean over a family of layers."""
    rows = table[(table["runtime"] == OURS) & (table["scheme"] != "dense") & (table["family"] == family)]
    rates = sorted(rows["rate"].unique())
    lines = []
    for scheme, group in rows.groupby("scheme", sort=False):
        means = [geometric_mean(group.loc[group["rate"] == rate, "speedup"]) for rate in rates]
        share = geometric_mean(group["share_of_ideal"])
        lines.append(
            [str(scheme), *("–" if math.isnan(mean) else f"{mean:.2f}" for mean in means), f"{100 * share:.0f} %"]
        )
    return markdown([f"times the best peer, {FAMILIES[family]}", *(f"{r:g}x" for r in rates), "of ideal"], lines)


def reach_table(table: pd.DataFrame) -> str:
    """A row a network of the zoo: milliseconds of ONNX Runtime and of ours, dense, and megabytes of activations."""
    rows = []
    for network, group in table.groupby("network", sort=False):
        own, peer = group[group["runtime"] == OURS], group[group["runtime"] != OURS]
        memory = f"{float(own['arena_bytes'].iloc[0]) / 1e6:.3g}"
        rows.append([ZOO[str(network)].title, _cell(peer), _cell(own, bold=True), memory])
    return markdown(["ms, dense", "ONNX Runtime", "npas", "activations, MB"], rows)


def cifar_table(table: pd.DataFrame) -> str:
    """A row a trained network: rate of weights, epochs, test accuracy of the last, and milliseconds."""
    rows = []
    for network, group in table.groupby("network", sort=False):
        for _, row in group.iterrows():
            dense = row["method"] == "dense"
            how = "dense" if dense else row["sparsities"] if row["method"] == OURS else row["method"]
            lost = "–" if dense else f"{row['lost']:.2f}"
            other = f"{row['other_ms']:.3g}" if pd.notna(row["other_ms"]) else "–"
            cells = [f"{row['rate']:.2f}x", "–" if dense else f"{row['epochs']:.0f}", f"{row['accuracy']:.2f}", lost]
            cells += [f"**{row['measured_ms']:.3g}** ({row['over_onnxruntime']:.2f}x)", other]
            rows.append([f"{str(network).replace('resnet', 'ResNet-')} {how}", *cells])
    header = ["CIFAR-10", "weights", "epochs", "accuracy, %", "lost", "npas, ms", "best other, ms"]
    return markdown(header, rows)


def latency_table(accuracy: pd.DataFrame) -> str:
    """A row a set of kernels or networks that the predictor never saw: how far it is off."""
    header = ["never seen by the predictor", "count", "within 5 %", "within 10 %", "error", "rank correlation"]
    header.append("inside interval")
    rows = []
    for row in accuracy.to_dict("records"):
        shares = [f"{row[name]:.0f} %" for name in ("within_5", "within_10")]
        rank = "–" if math.isnan(row["spearman"]) else f"{row['spearman']:.3f}"
        rows.append([str(row["set"]), f"{row['count']:.0f}", *shares, f"{row['rmspe']:.1f} %", rank])
        rows[-1].append(f"{row['covered']:.0f} %")
    return markdown(header, rows)


def public_table(table: pd.DataFrame) -> str:
    """A row a number of measured networks: mean over devices of rank correlation and error, alone and with others."""
    means = table.groupby(["table", "samples", "sources"], sort=False)[["spearman", "rmspe"]].mean().reset_index()
    header = ["published latencies", "networks measured", "rank correlation", "error", "with other devices", "error"]
    rows = []
    for _, group in means.groupby(["table", "samples"], sort=False):
        by_source = group.set_index("sources")
        line = [str(group["table"].iloc[0]), str(group["samples"].iloc[0])]
        for sources in ("alone", "others"):
            mean = by_source.loc[sources].to_dict()
            line += [f"{float(mean['spearman']):.3f}", f"{float(mean['rmspe']):.1f} %"]
        rows.append(line)
    return markdown(header, rows)


def search_table(table: pd.DataFrame, filter_: str) -> str:
    """A row a device and budget: mean validation regret of every method after 100 and 150 evaluations."""
    of_filter = table[table["filter"] == filter_]
    methods = [name for name in METHODS if (of_filter["method"] == name).any()]
    rows = []
    for device, quantile in product(DEVICES, QUANTILES):
        cell = of_filter[(of_filter["device"] == device) & (of_filter["quantile"] == quantile)].set_index("method")
        rows.append([f"{device}, {100 * quantile:.0f} %", *(_regret(cell.loc[[name]]) for name in methods)])
    by_method = of_filter.groupby("method")
    rows.append(["mean", *(_regret(by_method.get_group(name)) for name in methods)])
    rows.append(["seeds", *(str(by_method.get_group(name)["seeds"].min()) for name in methods)])
    return markdown(["regret, points", *methods], rows)


def _regret(rows: pd.DataFrame) -> str:
    return " / ".join(f"{rows[f'regret_{count}'].mean():.2f}" for count in (100, 150))


def rank_table(found: pd.DataFrame) -> str:
    """A row a cost of the fast score: rank correlations with the fully fine-tuned accuracy."""
    header = ["steps before the score", "Spearman", "95 % interval", "Kendall", "seconds, one thread"]
    rows = [
        [
            f"{row['steps']:.0f}",
            f"{row['spearman']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            f"{row['kendall']:.2f}",
            f"{row['seconds']:.1f}",
        ]
        for row in found.to_dict("records")
    ]
    return markdown(header, rows)


def supernet_table(table: pd.DataFrame) -> str:
    """A row a network: test accuracy inside the trained supernet and after a training alone of the same length."""
    header = ["network", "million MACs", "in the supernet, %", "alone, %", "points behind", "epochs"]
    rows = [
        [
            str(row["candidate"]),
            f"{row['mmacs']:.3g}",
            f"{row['test_inside']:.2f}",
            f"{row['test_alone']:.2f}",
            f"{row['test_behind']:.2f}",
            f"{row['epochs']:.0f}",
        ]
        for row in table.to_dict("records")
    ]
    return markdown(header, rows)


def main_job_table(table: pd.DataFrame) -> str:
    """The dense network and the winners of a main job: accuracy, latency beside ONNX Runtime's, size."""
    header = ["network", "test accuracy, %", "npas, ms", "of the dense one", "ONNX Runtime, ms", "ONNX file, kB"]
    dense_ms = float(table["measured_ms"].iloc[0])
    rows = [
        [
            str(row["name"]),
            f"{row['test_accuracy']:.2f}",
            f"{row['measured_ms']:.3f}",
            f"{100 * row['measured_ms'] / dense_ms:.0f} %",
            f"{row['onnxruntime_ms']:.3f}",
            f"{row['onnx_bytes'] / 1000:.0f}",
        ]
        for row in table.to_dict("records")
    ]
    return markdown(header, rows)


def own_space_table(table: pd.DataFrame) -> str:
    """A row a method: best validation accuracy after so many evaluations, and how often npas found more."""
    counts = sorted(table["evaluations"].unique())
    header = [
        "sampler",
        *(f"{count} evaluations" for count in counts),
        f"npas better / same / worse after {counts[-1]}",
    ]
    rows = []
    for (budget, method), group in table.groupby(["budget", "method"], sort=False):
        by_count = group.set_index("evaluations")
        last = by_count.loc[counts[-1]]
        against = f"{last['more']:.0f} / {last['same']:.0f} / {last['less']:.0f}" if method != "npas" else "–"
        rows.append([f"{method}, {budget}", *(f"{by_count.loc[count, 'accuracy']:.2f}" for count in counts), against])
    return markdown(header, rows)


def ablation_table(table: pd.DataFrame) -> str:
    """A row a variant of the sampler: its mean regret, and by how much more that is than the whole sampler's."""
    header = ["sampler", "regret, points", "more than npas", "runs"]
    rows = [
        [
            str(row["method"]),
            f"{row['regret']:.2f}",
            f"{row['lost']:+.2f} +- {row['lost_error']:.2f}" if row["lost_error"] else "–",
            f"{row['runs']}",
        ]
        for row in table.to_dict("records")
    ]
    return markdown(header, rows)


def machine_line(facts: Mapping[str, str]) -> str:
    """Where and when a table was measured."""
    versions = ", ".join(f"{name} {facts[name]}" for name in ("onnxruntime", "openvino", "ncnn", "torch"))
    peak = f"{facts['peak_gflops']} GF/s at most on one core"
    return f"{facts['processor']} ({facts['target']}, {peak}), {facts['date']}; {versions}."


def render(folder: Path) -> str:
    """All tables as markdown.

    Raises:
        ResultsMissing: if one of them was not measured.
    """
    networks, facts = read_table(folder / "networks.csv")
    kernels, _ = read_table(folder / "kernels.csv")
    families = [family for family in ("3x3", "1x1") if (kernels["family"] == family).any()]
    reach, _ = read_table(folder / "reach.csv")
    cifar, _ = read_table(folder / "cifar.csv")
    parts = [network_table(networks), reach_table(reach), dense_table(kernels)]
    parts += [sparse_table(kernels, family) for family in families]
    latency, _ = read_table(folder / "latency.csv")
    published, _ = read_table(folder / "latency_tables.csv")
    search, _ = read_table(folder / "search_regret.csv")
    parts += [cifar_table(cifar), machine_line(facts), latency_table(latency), public_table(published)]
    parts += [search_table(search, EXACT), search_table(search, PREDICTED)]
    parts += [
        rank_table(read_table(folder / "rank_correlation.csv")[0]),
        supernet_table(read_table(folder / "supernet.csv")[0]),
        main_job_table(read_table(folder / "mobile_cifar.csv")[0]),
        main_job_table(read_table(folder / "own_resnet56.csv")[0]),
        main_job_table(read_table(folder / "own_resnet20.csv")[0]),
        ablation_table(read_table(folder / "ablation.csv")[0]),
        own_space_table(read_table(folder / "own_space.csv")[0]),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    print(render(made.parse_args().results), end="")


if __name__ == "__main__":
    main()
