"""What npas has to reach, held against the tables: python -m benchmarks.bars [--results FOLDER]"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.competitors import OURS, TOLERANCE
from benchmarks.errors import ResultsMissing
from benchmarks.layers import LAYERS
from benchmarks.measure import geometric_mean
from benchmarks.tables import RESULTS, read_table
from benchmarks.zoo import ZOO

WINOGRAD_LAYERS = ("3x3 64@56", "3x3 128@28", "3x3 256@14")
SPARSE_FAMILIES = ("3x3", "1x1")
SPARSE_RATES = (2.0, 3.0, 5.0, 7.0, 10.0)
PATTERN_RATES = (3.0, 5.0, 7.0, 10.0)
POINTS_BEHIND = {"largest": 1.0, "smallest": 2.0}


@dataclass(frozen=True)
class Bar:
    """One requirement and what was measured; NaN if some row that it needs is missing."""

    subject: str
    unit: str
    required: float
    measured: float
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """`met`, `missed` or `not measured`."""
        if math.isnan(self.measured):
            return "not measured"
        met = self.measured <= self.required if self.at_most else self.measured >= self.required
        return "met" if met else "missed"


def kernel_bars(table: pd.DataFrame) -> list[Bar]:
    """The bars on single layers: geometric means over layers and rates."""
    peers = "x the best peer"
    bars = [
        Bar("dense 3x3 at 56, 28, 14", "x ncnn's Winograd", 1.5, _over_ncnn(table)),
        Bar("dense 1x1", peers, 1.0, _dense(table, "1x1")),
        Bar("dense 3x3, stride 2", peers, 1.0, _dense(table, "3x3s2")),
        Bar("depthwise 3x3", peers, 2.5, _dense(table, "depthwise", "depthwise-s2")),
    ]
    shares = {
        "block_punched(32x4)": 0.98,
        "block_punched(32x1)": 0.98,
        "block_punched(16x4)": 0.90,
        "block_punched(16x1)": 0.82,
        "block_punched(8x4)": 0.90,
        "unstructured": 0.42,
    }
    patterns = {"pattern(4, share=16)": 0.80, "pattern(4)": 0.50}
    for scheme, required in shares.items():
        rows = _ours(table, scheme, SPARSE_RATES)
        rows = rows[rows["family"].isin(SPARSE_FAMILIES)]
        share = _mean(rows, "share_of_ideal", _count(*SPARSE_FAMILIES) * len(SPARSE_RATES))
        bars.append(Bar(scheme, "of ideal", required, share))
    for scheme, required in patterns.items():
        rows = _ours(table, scheme, PATTERN_RATES)
        rows = rows[rows["family"] == "3x3"]
        share = _mean(rows, "share_of_ideal", _count("3x3") * len(PATTERN_RATES))
        bars.append(Bar(scheme, "of ideal", required, share))
    for rate, required in ((2.0, 2.5), (3.0, 3.6), (5.0, 5.0)):
        rows = _ours(table, "block_kernel(32x1)", (rate,))
        rows = rows[rows["layer"].isin(WINOGRAD_LAYERS)]
        bars.append(Bar(f"block_kernel(32x1) at {rate:g}x", peers, required, _mean(rows, "speedup", 3)))
    return bars


def network_bars(table: pd.DataFrame) -> list[Bar]:
    """The bars on whole networks."""
    wanted = (
        ("mobilenet_v2", "dense", 1.15),
        ("mobilenet_v3_large", "dense", 1.15),
        ("resnet50", "dense", 1.3),
        ("cifar_resnet20", "dense", 1.5),
        ("cifar_resnet56", "dense", 1.5),
        ("mobilenet_v2", "block_punched", 3.2),
        ("resnet50", "block_punched", 4.3),
        ("resnet18", "block_kernel", 5.0),
        ("cifar_resnet56", "block_kernel", 5.0),
    )
    bars = [
        Bar(f"{network} {scheme}", "x the best peer", required, _network(table, network, scheme, "speedup"))
        for network, scheme, required in wanted
    ]
    for network in ("resnet18", "cifar_resnet56"):
        punched = _network(table, network, "block_punched", "measured_ms")
        ratio = punched / _network(table, network, "block_kernel", "measured_ms")
        bars.append(Bar(f"{network} block_kernel", "x block_punched", 1.8, ratio))
    errors = table.loc[table["runtime"] == OURS, "error"]
    bars.append(Bar("largest relative error", "", TOLERANCE, float(errors.max()), at_most=True))
    seconds = _network(table, "mobilenet_v2", "dense", "compile_s")
    each = seconds / _network(table, "mobilenet_v2", "dense", "kernels")
    bars.append(Bar("mobilenet_v2 compiled", "s", 15.0, seconds, at_most=True))
    bars.append(Bar("mobilenet_v2 compiled", "s a kernel", 0.3, each, at_most=True))
    again = _network(table, "mobilenet_v2", "dense", "compile_again_s")
    bars.append(Bar("mobilenet_v2 compiled again", "s", 1.0, again, at_most=True))
    return bars


def reach_bars(table: pd.DataFrame) -> list[Bar]:
    """The bars on the whole zoo: time against ONNX Runtime, and bytes of activations against what has to be kept."""
    own = table[table["runtime"] == OURS].set_index("network")
    bars = [Bar(f"{name} dense", "x ONNX Runtime", 1.0, float(row["speedup"])) for name, row in own.iterrows()]
    wanted = [name for name, entry in ZOO.items() if entry.convolutional]
    speedups = own["speedup"].reindex(wanted)
    mean = geometric_mean(speedups) if speedups.notna().all() else math.nan
    bars.append(Bar("convolutional networks", "x ONNX Runtime", 1.2, mean))
    for name, row in own.iterrows():
        share = float(row["arena_bytes"] / row["live_bytes"])
        bars.append(Bar(f"{name} activations", "x the largest live set", 1.3, share, at_most=True))
    return bars


def thread_bars(table: pd.DataFrame) -> list[Bar]:
    """The bars on dense networks on two threads."""
    wanted = (("resnet50", 1.8), ("mobilenet_v2", 1.6), ("cifar_resnet20", 1.0))
    two = table[table["threads"] == 2].set_index("network")["speedup"]
    return [
        Bar(f"{network} on two threads", "x one thread", required, float(two.get(network, math.nan)))
        for network, required in wanted
    ]


def cifar_bars(table: pd.DataFrame) -> list[Bar]:
    """The bars on trained networks: points of test accuracy, the mean over seeds."""
    lost = [
        ("resnet20-2.5x-long", 2.5, 0.5),
        ("resnet20-5x-long", 5.0, 2.0),
    ]
    bars = []
    for name, rate, allowed in lost:
        rows = _runs(table, name)
        bars.append(Bar(name, "points lost", allowed, float(rows["lost"].mean()), at_most=True))
        bars.append(Bar(name, "x fewer weights", rate, float(rows["rate"].mean())))
    fast = table[(table["network"] == "resnet56") & (table["method"] == OURS) & (table["over_onnxruntime"] >= 2.5)]
    bars.append(Bar("resnet56, 2.5x ONNX Runtime", "points lost", 0.2, float(fast["lost"].min()), at_most=True))
    for _, peer in table[table["method"] == "torch-pruning"].iterrows():
        ahead = float(_runs(table, str(peer["as_fast_as"]))["accuracy"].mean()) - float(peer["accuracy"])
        equal = abs(float(peer["share_of_target"]) - 1) <= 0.03
        bars.append(Bar(str(peer["run"]), "points behind ours", 0.0, ahead if equal else math.nan))
    return bars


def supernet_bars(table: pd.DataFrame) -> list[Bar]:
    """Networks inside the supernet against the same ones trained alone, on pictures that nobody has seen."""
    behind = table.set_index("candidate")["test_behind"].to_dict()
    return [
        Bar(f"{name} network in the supernet", "points behind alone", most, behind.get(name, math.nan), at_most=True)
        for name, most in POINTS_BEHIND.items()
    ]


def _runs(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of a run, one a seed."""
    return table[table["run"].str.rpartition("-seed")[0] == name]


def _ours(table: pd.DataFrame, scheme: str, rates: Sequence[float] = (1.0,)) -> pd.DataFrame:
    return table[(table["runtime"] == OURS) & (table["scheme"] == scheme) & table["rate"].isin(rates)]


def _mean(rows: pd.DataFrame, column: str, count: int) -> float:
    """The geometric mean of `count` rows, NaN if there are fewer or one has no value."""
    values = rows[column]
    return geometric_mean(values) if len(values) == count and values.notna().all() else math.nan


def _dense(table: pd.DataFrame, *families: str) -> float:
    rows = _ours(table, "dense")
    return _mean(rows[rows["family"].isin(families)], "speedup", _count(*families))


def _count(*families: str) -> int:
    return sum(layer.family in families for layer in LAYERS.values())


def _over_ncnn(table: pd.DataFrame) -> float:
    times = table[(table["scheme"] == "dense") & table["layer"].isin(WINOGRAD_LAYERS)]
    wide = times.pivot_table(index="layer", columns="runtime", values="measured_us")
    if not {OURS, "ncnn"} <= set(wide.columns) or len(wide) < len(WINOGRAD_LAYERS):
        return math.nan
    return geometric_mean(wide["ncnn"] / wide[OURS])


def _network(table: pd.DataFrame, network: str, scheme: str, column: str) -> float:
    rate = 1.0 if scheme == "dense" else 5.0
    rows = _ours(table, scheme, (rate,))
    values = rows.loc[rows["network"] == network, column]
    return float(values.iloc[0]) if len(values) else math.nan


def all_bars(folder: Path) -> list[Bar]:
    """The bars of the tables that are there.

    Raises:
        ResultsMissing: if there is none.
    """
    bars: list[Bar] = []
    parts = {
        "kernels": kernel_bars,
        "networks": network_bars,
        "reach": reach_bars,
        "threads": thread_bars,
        "cifar": cifar_bars,
        "supernet": supernet_bars,
    }
    for name, of in parts.items():
        path = folder / f"{name}.csv"
        if path.exists():
            bars += of(read_table(path)[0])
    if not bars:
        names = ", ".join(f"{name}.csv" for name in parts)
        raise ResultsMissing(f"{folder} has none of {names}; measure them first")
    return bars


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    for bar in all_bars(made.parse_args().results):
        sign = "<=" if bar.at_most else ">="
        print(f"{bar.verdict:13} {bar.subject:30} {bar.measured:9.3g} {sign} {bar.required:g} {bar.unit}")


if __name__ == "__main__":
    main()
