"""The latency model against measurements of our own and of others: python -m benchmarks.latency PART

Parts: `kernels` times kernels of two spaces, the main job's and that for CIFAR-10, and of networks at large;
`candidates` and `families` time whole networks, and `compile` fills the cache of compiled kernels before, so that the
machine is needed alone for less time; `judge` fits the predictor and holds it against all of these; `tables` needs the
files of published latencies. What is timed is kept in a folder of its own, and no kernel is timed twice.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from benchmarks.errors import ResultsMissing
from benchmarks.machine import machine_facts
from benchmarks.measure import one_core
from benchmarks.networks import pruned
from benchmarks.public_tables import evaluate, fbnet, nasbench201
from benchmarks.tables import RESULTS, write_table
from benchmarks.zoo import make_network
from compiler import SELF_CONTAINED, CompiledModel, KernelSpec, compile_model
from latency_model import Device, KernelStore, LatencyPredictor, ProfileProgress, load_device, profile
from latency_model.inventory import common_kernels
from latency_model.store import SPEC_COLUMNS
from scripts.profile import compile_untrained, spread_candidates, with_conversions, with_relatives
from search import timed_specs
from supernet import Candidate, SearchSpace, SuperNet, make_space

WORK = Path("runs/benchmarks/latency")
SPACES = {name: Path(__file__).parents[1] / "conf" / "space" / f"{name}.yaml" for name in ("tiny", "mobile_cifar")}
POOL, AT_LARGE, CANDIDATES, FITTED, NARROWER = 2000, 2000, 50, 20, 3
ROUNDS, SECONDS = 5, 0.15
FAMILIES = ("mobilenet_v2", "cifar_resnet56", "resnet50")
PRUNINGS = (("block_punched", 2.0), ("block_punched", 5.0), ("block_punched", 10.0), ("block_kernel", 5.0))
LEFT = 0.9
"""Share of the channels that the networks of unaligned widths keep."""


@dataclass(frozen=True)
class Case:
    """A compiled network, and the kernels that the predictor is asked for."""

    name: str
    compiled: CompiledModel
    specs: Sequence[KernelSpec]


def cifar_space(name: str, left: float = 1.0, align: int = 1) -> SearchSpace:
    """A space for CIFAR-10's pictures, with this share of its channels, rounded up to multiples of `align`."""
    config = OmegaConf.to_container(OmegaConf.load(SPACES[name]))
    assert isinstance(config, dict)
    for part in (config["stem"], config["head"], *config["stages"]):
        part["channels"] = align * -(-round(left * part["channels"]) // align)
    return make_space({str(key): value for key, value in config.items()}, (3, 32, 32), 10)


def space_kernels(name: str, device: Device) -> list[KernelSpec]:
    """Kernels that the space's candidates are made of."""
    space, rng = cifar_space(name), np.random.default_rng(0)
    candidates = spread_candidates(space, POOL, rng)
    occurring = (spec for candidate in candidates for spec in timed_specs(space, candidate, device.target))
    return with_relatives(with_conversions(occurring))


def candidates(device: Device) -> Iterator[Case]:
    """Candidates of the spaces to fit on, as the main job draws them; random ones to judge by; and some of spaces with
    a tenth fewer channels, unrounded and rounded.

    With `narrows`, as in mobile_cifar, all widths are multiples of 8; only the main job's space is narrowed otherwise.
    """
    for name in SPACES:
        space = cifar_space(name)
        yield from _cases(f"{name} fitted", space, spread_candidates(space, FITTED, np.random.default_rng(2)), device)
        yield from _cases(f"{name} candidate", space, _random(space, CANDIDATES, seed=1), device)
    for kind, align in (("unrounded", 1), ("rounded", 8)):
        space = cifar_space("tiny", LEFT, align)
        yield from _cases(f"tiny {kind}", space, _random(space, NARROWER, seed=5), device)


def _random(space: SearchSpace, count: int, *, seed: int) -> list[Candidate]:
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(count)]


def _cases(name: str, space: SearchSpace, chosen: Sequence[Candidate], device: Device) -> Iterator[Case]:
    supernet = SuperNet(space)
    for index, candidate in enumerate(chosen):
        compiled = compile_untrained(supernet, candidate, device, (3, 32, 32))
        yield Case(f"{name} {index}", compiled, timed_specs(space, candidate, device.target))


def families(device: Device) -> Iterator[Case]:
    """Networks that no part of the predictor was fitted to."""
    for name in FAMILIES:
        model, image = make_network(name)
        compiled = compile_model(model, image, device=device.target)
        yield Case(f"{name} dense", compiled, compiled.specs)
        for scheme, rate in PRUNINGS:
            compiled = compile_model(pruned(model, image, scheme, rate), image, device=device.target)
            yield Case(f"{name} {scheme} {rate:g}x", compiled, compiled.specs)


def time_networks(cases: Sequence[Case], device: Device) -> list[dict[str, Any]]:
    """Each network once a round; the lowest of its medians counts, since what else runs only ever makes it slower."""
    medians: list[list[float]] = [[] for _ in cases]
    with one_core():
        for _ in range(ROUNDS):
            for case, times in zip(cases, medians, strict=True):
                times.append(device.runner.time(case.compiled, seconds=SECONDS).median_ms)
    return [
        {
            "name": case.name,
            "measured_ms": min(times),
            "rounds_ms": times,
            "specs": [spec.to_dict() for spec in case.specs],
        }
        for case, times in zip(cases, medians, strict=True)
    ]


def judge(device: Device) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy by kind of kernel and of network, and a row a network; other families only if they were timed."""
    tables = {name: _table(name, device) for name in (*SPACES, "large")}
    timed = _networks("candidates")
    accuracy, networks = [], []
    for name in SPACES:
        predictor = LatencyPredictor.fit(tables[name], device)
        fitted = _of(timed, f"{name} fitted")
        predictor.fit_networks([_specs(row) for row in fitted], [row["measured_ms"] for row in fitted])
        accuracy.append(predictor.accuracy(tables[name]).iloc[:1].assign(set=f"{name}, kernels"))
        for kind, label in _JUDGED.items():
            if rows := _of(timed, f"{name} {kind}"):
                accuracy.append(_judged(predictor, rows, f"{name}, {label}"))
                networks += [_row(predictor, row) for row in rows]
    table = pd.concat(tables.values()).drop_duplicates(list(SPEC_COLUMNS))
    predictor = LatencyPredictor.fit(table, device)
    accuracy.append(predictor.accuracy(table).iloc[:1].assign(set="kernels at large"))
    if _path("families").is_file():
        rows = _networks("families")
        accuracy.append(_judged(predictor, rows, "networks of other families"))
        networks += [_row(predictor, row) for row in rows]
    return pd.concat(accuracy).drop(columns="op").set_index("set").reset_index(), pd.DataFrame(networks)


_JUDGED = {"candidate": "whole candidates", "unrounded": "unrounded widths", "rounded": "rounded widths"}


def _of(rows: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["name"].startswith(f"{kind} ")]


def _judged(predictor: LatencyPredictor, rows: Sequence[dict[str, Any]], name: str) -> pd.DataFrame:
    found = predictor.network_accuracy([_specs(row) for row in rows], [row["measured_ms"] for row in rows])
    return found.assign(set=name)


def _row(predictor: LatencyPredictor, row: dict[str, Any]) -> dict[str, Any]:
    found = predictor.predict_network(_specs(row))
    bounds = {"lower_ms": found.lower_ms, "upper_ms": found.upper_ms}
    error = 100 * (found.mean_ms / row["measured_ms"] - 1)
    spread = 100 * (float(np.median(row["rounds_ms"])) / row["measured_ms"] - 1)
    facts = {"network": row["name"], "measured_ms": row["measured_ms"], "median_over_lowest_percent": spread}
    return {**facts, "predicted_ms": found.mean_ms, **bounds, "error_percent": error}


def _specs(row: dict[str, Any]) -> list[KernelSpec]:
    """The kernels that can be timed alone; what moves data as no spec can say is left out, as in `npas prune`."""
    specs = (KernelSpec.from_dict(spec) for spec in row["specs"])
    return [spec for spec in specs if spec.op in SELF_CONTAINED]


def _table(name: str, device: Device) -> pd.DataFrame:
    return KernelStore(WORK / f"{name}.parquet").table(device.environment().fingerprint)


def _path(part: str) -> Path:
    return WORK / f"{part}.json"


def _networks(part: str) -> list[dict[str, Any]]:
    path = _path(part)
    if not path.is_file():
        raise ResultsMissing(f"{path} is not there; measure it first with python -m benchmarks.latency {part}")
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def _time_kernels(device: Device, seconds: float) -> None:
    def show(state: ProfileProgress) -> None:
        if state.networks % 10 == 0:
            print(f"{state.kernels} of {state.of_kernels} kernels, {state.seconds:.0f} s, drift {state.drift:+.0%}")

    pools = {name: space_kernels(name, device) for name in SPACES} | {"large": list(common_kernels(AT_LARGE))}
    for name, specs in pools.items():
        profile(specs, device, KernelStore(WORK / f"{name}.parquet"), limit_s=seconds, progress=show)


def _judge(device: Device, folder: Path) -> None:
    accuracy, networks = judge(device)
    facts = machine_facts()
    write_table(folder / "latency.csv", accuracy, facts)
    write_table(folder / "latency_networks.csv", networks, facts)
    print(accuracy.round(3).to_string(), networks.round(3).to_string(), sep="\n\n")


def _tables(arguments: argparse.Namespace) -> None:
    found = []
    for read, path in ((nasbench201, arguments.nasbench201), (fbnet, arguments.fbnet)):
        if path is not None:
            found.append(evaluate(read(path), seeds=arguments.seeds))
            print(found[-1].groupby(["table", "samples", "sources"])[["spearman", "rmspe"]].mean().round(4), flush=True)
            write_table(arguments.out / "latency_tables.csv", pd.concat(found), {"draws": str(arguments.seeds)})


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("part", choices=["kernels", "compile", "candidates", "families", "judge", "tables"])
    made.add_argument(
        "--seconds", type=float, default=600.0, help="limit of timing for each of the three sets of kernels"
    )
    made.add_argument("--nasbench201", type=Path, help="CSV of op0..op5 and lat_* in milliseconds")
    made.add_argument("--fbnet", type=Path, help="CSV of b0..b21 and lat_* in milliseconds")
    made.add_argument("--seeds", type=int, default=5, help="draws of the sample of published networks")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = made.parse_args()
    if arguments.part == "tables":
        _tables(arguments)
        return
    device = load_device("local")
    if arguments.part == "kernels":
        _time_kernels(device, arguments.seconds)
    elif arguments.part == "compile":
        print(f"{len([*candidates(device), *families(device)])} networks are in the cache of compiled kernels")
    elif arguments.part == "judge":
        _judge(device, arguments.out)
    else:
        cases = list({"candidates": candidates, "families": families}[arguments.part](device))
        WORK.mkdir(parents=True, exist_ok=True)
        rows = time_networks(cases, device)
        _path(arguments.part).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
