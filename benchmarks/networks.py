"""Whole networks, dense and pruned, against other runtimes: python -m benchmarks.networks [--quick] [--networks ...]"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
from torch import Tensor, nn

from benchmarks.command_line import common, peers_parser
from benchmarks.competitors import OURS, Competitor, load_peers, ours, timed
from benchmarks.machine import machine_facts
from benchmarks.measure import Budget, Times, measure, one_core
from benchmarks.peers import Peer, find_peers
from benchmarks.tables import write_table
from benchmarks.zoo import ZOO, make_network
from benchmarks.zoo.weights import calibrate
from compiler import compile_model
from pruning import Sparsity, prune

RATE = 5.0
SCHEMES = ("block_punched", "block_kernel")
NETWORKS = ["mobilenet_v2", "mobilenet_v3_large", "resnet18", "resnet50", "cifar_resnet20", "cifar_resnet56"]
QUICK_NETWORKS = ["cifar_resnet20", "mobilenet_v2"]


@dataclass(frozen=True)
class CompileTime:
    """Seconds to compile a network without any cached kernel, and again; distinct kernels in it."""

    first_s: float
    again_s: float
    kernels: int


def pruning_plan(model: nn.Module, scheme: str, rate: float) -> dict[str, Sparsity]:
    """Blocks of 32 filters where 32 divides their number, else of 16, x 1 channel, in every convolution but the first
    and the depthwise ones; linear layers, the classifiers, stay dense."""
    convolutions = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return {
        name: Sparsity(f"{scheme}({32 if conv.out_channels % 32 == 0 else 16}x1)", rate)
        for name, conv in convolutions[1:]
        if conv.groups == 1
    }


def pruned(model: nn.Module, image: Tensor, scheme: str, rate: float) -> nn.Module:
    """A pruned copy with batch norms measured anew."""
    model = copy.deepcopy(model)
    prune(model, image, pruning_plan(model, scheme, rate))
    calibrate(model, tuple(image.shape[1:]))
    return model


@contextmanager
def empty_cache() -> Iterator[None]:
    """A kernel cache of its own."""
    before = os.environ.get("NPAS_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NPAS_CACHE"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["NPAS_CACHE"]
            else:
                os.environ["NPAS_CACHE"] = before


def compile_time(model: nn.Module, image: Tensor) -> CompileTime:
    """Wall time of compiling twice, on the cores that this process may use."""
    seconds = []
    with empty_cache():
        for _ in range(2):
            begin = time.perf_counter()
            compiled = compile_model(model, image)
            seconds.append(time.perf_counter() - begin)
    return CompileTime(seconds[0], seconds[1], int(compiled.kernels["code"].nunique()))


def load(
    model: nn.Module, image: Tensor, rates: list[float], peers: list[Peer]
) -> tuple[dict[tuple[str, Sparsity], Competitor], dict[str, str]]:
    """All competitors by runtime and sparsity: ours dense and pruned, peers dense, since they ignore zeros."""
    loaded, refused = load_peers(peers, model, image)
    cases = {(name, Sparsity()): competitor for name, competitor in loaded.items()}
    cases[OURS, Sparsity()] = ours(model, image)
    for scheme in SCHEMES:
        for rate in rates:
            cases[OURS, Sparsity(f"{scheme}(32x1)", rate)] = ours(pruned(model, image, scheme, rate), image)
    return cases, refused


def measure_network(
    name: str, rates: list[float], peers: list[Peer], budget: Budget, compiling: Mapping[str, CompileTime]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row a competitor, all measured in the same rounds, and the reasons of the peers that are missing."""
    model, image = make_network(name)
    cases, refused = load(model, image, rates, peers)
    runs = {f"{runtime} {sparsity}": competitor.run for (runtime, sparsity), competitor in cases.items()}
    times = measure(runs, budget)
    rows = [
        _row(name, runtime, sparsity, competitor, times[f"{runtime} {sparsity}"], compiling[name])
        for (runtime, sparsity), competitor in cases.items()
    ]
    table = pd.DataFrame(rows)
    best = table.loc[table["runtime"] != OURS, "measured_ms"].min()
    return table.assign(speedup=best / table["measured_ms"]), refused


def _row(
    network: str, runtime: str, sparsity: Sparsity, competitor: Competitor, times: Times, compiling: CompileTime
) -> dict[str, object]:
    row: dict[str, object] = {
        "network": network,
        "runtime": runtime,
        "scheme": sparsity.scheme.name,
        "rate": sparsity.rate,
        **timed(competitor, times),
    }
    if competitor.compiled is not None:
        row["arena_mb"] = competitor.compiled.arena_bytes / 2**20
        if sparsity.dense:
            row |= {"compile_s": compiling.first_s, "compile_again_s": compiling.again_s, "kernels": compiling.kernels}
    return row


def main() -> None:
    made = peers_parser(__doc__)
    made.add_argument("--networks", nargs="+", choices=NETWORKS, metavar="NETWORK", help=f"of {', '.join(NETWORKS)}")
    made.add_argument("--rates", nargs="*", type=float, default=[RATE], help="pruning rates")
    arguments = made.parse_args()
    told = common(arguments)
    networks: list[str] = arguments.networks or (QUICK_NETWORKS if told.quick else NETWORKS)
    peers = find_peers(told.peers)
    compiling = {name: compile_time(*make_network(name)) for name in networks}
    tables: list[pd.DataFrame] = []
    with one_core():
        facts = machine_facts()
        for name in networks:
            table, refused = measure_network(name, arguments.rates, peers, told.budget, compiling)
            print(f"\n{ZOO[name].title}\n{table.drop(columns='network').to_string(index=False, na_rep='')}")
            facts |= {f"not measured on {name}, {peer}": reason for peer, reason in refused.items()}
            tables.append(table)
            write_table(told.folder / "networks.csv", pd.concat(tables), facts)


if __name__ == "__main__":
    main()
