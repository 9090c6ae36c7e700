"""Pretrained CIFAR-10 ResNets pruned, trained and measured: python -m benchmarks.cifar --weights 20=FILE 56=FILE"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from omegaconf import OmegaConf
from torch import nn

from benchmarks.channels import candidates
from benchmarks.command_line import common, peers_parser
from benchmarks.competitors import OURS, Competitor, load_peers, ours, timed
from benchmarks.errors import UnknownName
from benchmarks.finetuning import IMAGE, Run, Workshop
from benchmarks.machine import machine_facts
from benchmarks.measure import STEADY_US, Budget, Times, measure, one_core
from benchmarks.peers import Peer, find_peers
from benchmarks.tables import write_table
from pruning import prune, shrink
from training import evaluate, load_dataset

CONFIG = Path(__file__).with_suffix(".yaml")
STEPS = ("match", "train", "measure")
DENSE = "dense"
PEER = "torch-pruning"
SLOWER = 0.02
"""Share of ours by which the peer's network may be slower."""


def read_runs(path: Path) -> tuple[list[Run], dict[str, object], dict[str, object]]:
    """Runs, recipe and data of a configuration; a run with several seeds is several runs."""
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    assert isinstance(content, dict)
    runs = []
    for name, told in content["runs"].items():
        sparsities = told.get("sparsities", ())
        told = {**told, "sparsities": sparsities if isinstance(sparsities, dict) else tuple(sparsities)}
        runs += [Run(name=name, seed=seed, **told) for seed in told.pop("seeds", [0])]
    return runs, content["recipe"], content["data"]


def match(workshop: Workshop, run: Run, target: Run, budget: Budget) -> None:
    """Find the least ratio with which torch-pruning's network takes as long as ours, all timed in the same rounds.

    Both go through our compiler, which is the fastest runtime for this network dense; what others need for the chosen
    one is in the table too. Latency needs no training: ours has the masks of the published weights.
    """
    goal = workshop.dense(target.depth)
    prune(goal, IMAGE, target.plan(goal))
    slim = candidates(workshop.dense(run.depth), IMAGE)
    with one_core():
        runs = {"goal": ours(_shrunk(goal), IMAGE).run} | {str(r): ours(net, IMAGE).run for r, net in slim.items()}
        times = {name: timed(Competitor(runs[name], 0), found) for name, found in measure(runs, budget).items()}
    goal_ms = times.pop("goal")["measured_ms"]
    shares = {ratio: found["measured_ms"] / goal_ms for ratio, found in times.items()}
    fast_enough = [ratio for ratio, share in shares.items() if share <= 1 + SLOWER] or [
        min(shares, key=shares.__getitem__)
    ]
    ratio = min(fast_enough, key=float)
    print(f"{run.name}: {goal_ms:.4f} ms, {', '.join(f'{key}: {value:.3f}' for key, value in shares.items())}")
    path = workshop.ratio_path(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"ratio": float(ratio), "share": shares[ratio], "goal_ms": goal_ms}))


def measure_depth(
    workshop: Workshop, runs: Sequence[Run], peers: list[Peer], budget: Budget
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row a network of one depth, the dense one first; all are timed in the same rounds.

    Other runtimes run the dense network and the peer's; they ignore zeros, so that ours would be dense to them.
    """
    depth = runs[0].depth
    dense = workshop.dense(depth)
    networks: dict[str, nn.Module] = {DENSE: dense}
    accuracy = {DENSE: evaluate(dense, workshop.data.test).accuracy}
    for run in runs:
        networks[run.label], accuracy[run.label] = workshop.trained(run)
    told = {run.label: run for run in runs}
    cases: dict[tuple[str, str], Competitor] = {}
    refused: dict[str, str] = {}
    for label, network in networks.items():
        cases[label, OURS] = ours(_shrunk(network), IMAGE)
        if label == DENSE or told[label].as_fast_as is not None:
            loaded, reasons = load_peers(peers, network, IMAGE)
            cases |= {(label, name): competitor for name, competitor in loaded.items()}
            refused |= reasons
    times = measure({" ".join(key): competitor.run for key, competitor in cases.items()}, budget)
    rows = []
    for label, network in networks.items():
        others = {name: times[f"{label} {name}"] for found, name in cases if found == label and name != OURS}
        row: dict[str, object] = {"network": f"resnet{depth}", "run": label}
        row |= _told(told.get(label)) | {"accuracy": accuracy[label], "lost": accuracy[DENSE] - accuracy[label]}
        if label in told and told[label].as_fast_as is not None:
            row["ratio"] = workshop.ratio(told[label])
        row |= {"weights": _weights(_shrunk(network)), "rate": _weights(dense) / _weights(network)}
        row |= timed(cases[label, OURS], times[f"{label} {OURS}"]) | _best(others)
        rows.append(row)
    table = pd.DataFrame(rows)
    first = table.iloc[0]
    table["over_dense"] = first["measured_ms"] / table["measured_ms"]
    table["over_best_other"] = first["other_ms"] / table["measured_ms"]
    milliseconds = dict(zip(table["run"], table["measured_ms"], strict=True))
    targets = {run.label: f"{run.as_fast_as}-seed{run.seed}" for run in runs if run.as_fast_as}
    table["share_of_target"] = [
        milliseconds[label] / milliseconds.get(targets.get(label, ""), math.nan) for label in table["run"]
    ]
    if (DENSE, "onnxruntime") in cases:
        onnxruntime_ms = timed(cases[DENSE, "onnxruntime"], times[f"{DENSE} onnxruntime"])["measured_ms"]
        table["over_onnxruntime"] = onnxruntime_ms / table["measured_ms"]
    return table, refused


def _shrunk(model: nn.Module) -> nn.Module:
    shrink(model, IMAGE)
    return model


def _weights(model: nn.Module) -> int:
    """Weights of convolutions and linear layers that are not zero."""
    return sum(int((weight != 0).sum()) for weight in model.parameters() if weight.ndim > 1)


def _told(run: Run | None) -> dict[str, object]:
    if run is None:
        return {"method": DENSE}
    return {
        "method": OURS if run.as_fast_as is None else PEER,
        "algorithm": run.algorithm,
        "options": json.dumps(dict(run.options)) if run.options else "",
        "sparsities": _summary(run.sparsities),
        "pruning_epochs": run.pruning_epochs,
        "epochs": run.epochs,
        "lr": run.lr,
        "seed": run.seed,
        "as_fast_as": run.as_fast_as or "",
    }


def _summary(sparsities: tuple[str, ...] | Mapping[str, str]) -> str:
    """Of the stages; or, of layers by name, how many have which."""
    if not isinstance(sparsities, Mapping):
        return ", ".join(sparsities)
    return ", ".join(f"{count} {text}" for text, count in sorted(Counter(sparsities.values()).items()))


def _best(others: Mapping[str, Times]) -> dict[str, object]:
    """The fastest of the other runtimes."""
    if not others:
        return {}
    found = {name: timed(Competitor(lambda: None, 0), times)["measured_ms"] for name, times in others.items()}
    name = min(found, key=found.__getitem__)
    return {"other": name, "other_ms": found[name]}


def main() -> None:
    made = peers_parser(__doc__)
    made.add_argument("runs", nargs="*", metavar="RUN", help="of the configuration; default: all")
    made.add_argument("--config", type=Path, default=CONFIG, help="runs, recipe, data")
    made.add_argument("--weights", nargs="+", required=True, metavar="DEPTH=FILE", help="published weights")
    made.add_argument("--data", type=Path, default=Path("data"), help="folder of the dataset")
    made.add_argument("--work", type=Path, default=Path("runs/cifar"), help="folder of unfinished and trained networks")
    made.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="of the whole way")
    made.add_argument("--threads", type=int, default=2, help="of the trainings")
    arguments = made.parse_args()
    told = common(arguments)
    budget = replace(told.budget, sample_us=STEADY_US)
    torch.set_num_threads(arguments.threads)
    runs, recipe, data = read_runs(arguments.config)
    by_name = {run.name: run for run in runs}
    if unknown := sorted(set(arguments.runs) - by_name.keys()):
        raise UnknownName(f"there is no run {', '.join(unknown)}; known: {', '.join(by_name)}")
    wanted = [run for run in runs if not arguments.runs or run.name in arguments.runs]
    weights = {int(depth): Path(path) for depth, _, path in (entry.partition("=") for entry in arguments.weights)}
    dataset = load_dataset(str(data["name"]), arguments.data, validation=float(str(data["validation"])))
    workshop = Workshop(dataset, weights, recipe, arguments.work)
    if "match" in arguments.steps:
        for run in wanted:
            if run.as_fast_as is not None and not workshop.ratio_path(run).exists():
                match(workshop, run, by_name[run.as_fast_as], budget)
    if "train" in arguments.steps:
        for run in wanted:
            workshop.train(run)
    if "measure" in arguments.steps:
        peers = find_peers(told.peers)
        tables = []
        with one_core():
            facts = machine_facts() | {f"recipe {key}": str(value) for key, value in recipe.items()}
            for depth in sorted({run.depth for run in wanted}):
                table, refused = measure_depth(workshop, [run for run in wanted if run.depth == depth], peers, budget)
                print(table.to_string(index=False, na_rep=""))
                facts |= {f"not measured on resnet{depth}, {peer}": reason for peer, reason in refused.items()}
                tables.append(table)
                write_table(told.folder / "cifar.csv", pd.concat(tables), facts)


if __name__ == "__main__":
    main()
