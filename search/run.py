"""A whole search from a resolved configuration and the earlier stages of its run directory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compiler import Target, Timing, compile_model
from latency_model import Device, LatencyPredictor, NetworkPrediction
from search.budget import Budgets
from search.cluster import Cluster, make_cluster
from search.distortion_file import DISTORTIONS, distortions_of
from search.driver import Search
from search.encoding import Encoding
from search.evaluator import SupernetEvaluator
from search.feasible import FeasibleSet, LatencyFunction
from search.lowering import timed_specs
from search.result import Evaluation, SearchResult
from search.study import STUDY_NAME, copy_to_file
from supernet import (
    Candidate,
    ChoiceSpace,
    Distortions,
    EvaluationRecipe,
    OwnModel,
    SuperNet,
    SupernetRecipe,
    make_space,
)
from training import Dataset, load_checkpoint, load_dataset

DENSE = "dense.json"
STUDY = "study.db"
_SECONDS = 2.0


def run_search(
    config: Mapping[str, Any],
    on_trial: Callable[[Evaluation], None] | None = None,
    *,
    on_start: Callable[[SearchResult], None] | None = None,
    on_site: Callable[[int, int], None] | None = None,
    supernet: SuperNet | OwnModel | None = None,
) -> SearchResult:
    """Search with the supernet and the latency predictor of `config["run_dir"]`, into its `study.db`.

    A search that was stopped is continued. With `config["storage"]`, the URL of a database, the study lies there, and
    `study.db` is a copy of it when the search is over.

    Args:
        config: as for `prepare_search`.
        on_trial: called after every evaluation.
        on_start: called before the first one, with what the study holds already.
        on_site: as for `prepare_search`.
        supernet: what candidates are cut from; by default the supernet of the run directory.

    Raises:
        BudgetError, InfeasibleBudget, ArtifactCorrupt, CheckpointNotFound, ClusterError: as `prepare_search` does.
        StudyBusy, StudyCorrupt, StudyMismatch, StorageUnreachable: the study cannot be continued.
    """
    search = prepare_search(config, on_site=on_site, supernet=supernet)
    result = search.run(on_trial, on_start=on_start)
    if storage := config.get("storage"):
        copy_to_file(storage, search.study, Path(config["run_dir"]) / STUDY)
    return result


def prepare_search(
    config: Mapping[str, Any],
    *,
    on_site: Callable[[int, int], None] | None = None,
    supernet: SuperNet | OwnModel | None = None,
) -> Search:
    """The search that a configuration describes, not yet begun.

    The dense network's latency, to which a budget in percent refers, is measured once and kept in `dense.json`; how far
    choices move its outputs, if the sampler begins with that, in `distortions.json`.

    Args:
        config: plain values with the keys of `conf/config.yaml`: `run_dir`, `data`, `space`, `device`, `budget`,
            `seed` and `search` (`sampler`, `trials`, `recalibration_batches`, and optionally `pictures`, `steps` and
            `options`). Pictures are augmented as `training.supernet` says, if it is there. Without `cluster` all runs
            in this process. The study lies in `study.db`, or, with `storage`, in the file or database of that name.
        on_site: called while distortions are found, with the number of sites that are done and of all.
        supernet: what candidates are cut from; by default the supernet of the run directory.

    Raises:
        BudgetError, InfeasibleBudget: a budget is not understood, or no candidate meets it.
        CheckpointNotFound, CheckpointCorrupt, ArtifactCorrupt: an earlier stage is missing or damaged.
        ClusterError: the cluster cannot be used.
        DistortionFailed, DistortionsCorrupt: distortions cannot be found, or the file with them is damaged.
    """
    run_dir, settings = Path(config["run_dir"]), config["search"]
    budgets = Budgets.parse(config["budget"])
    cluster = make_cluster(config.get("cluster", {"driver": "local"}), config["device"]["name"])
    cluster.check(settings["trials"])
    data = config["data"]
    dataset = load_dataset(data["name"], data["root"], validation=data["validation"])
    if supernet is None:
        supernet = _trained(config, dataset)
    space = supernet.space
    predictor = LatencyPredictor.load(run_dir / "predictor")
    dense_ms = _dense_ms(supernet, dataset.input_shape, config["device"], cluster, run_dir / DENSE)
    target = cluster.on_device(_target, config["device"])

    @cache
    def latency(candidate: Candidate) -> NetworkPrediction:
        return predictor.predict_network(timed_specs(space, candidate, target))

    @cache
    def distortions() -> Distortions:
        told = None if on_site is None else lambda done: on_site(done, len(space.site_names))
        return distortions_of(supernet, dataset, run_dir / DISTORTIONS, seed=config["seed"], on_site=told)

    return Search(
        space,
        SupernetEvaluator(supernet, dataset, _recipe(config), seed=config["seed"]),
        latency,
        budgets.resolve(dense_ms, lambda: fastest_ms(space, lambda candidate: latency(candidate).upper_ms)),
        config.get("storage") or run_dir / STUDY,
        sampler=settings["sampler"],
        trials=settings["trials"],
        seed=config["seed"],
        options=settings.get("options"),
        cluster=cluster,
        study=config.get("study", STUDY_NAME),
        distortions=distortions,
    )


def check_budget(supernet: SuperNet | OwnModel, device: Mapping[str, Any], budgets: Budgets, run_dir: Path) -> None:
    """Finds out before a training whether the search after it would have anything to choose from.

    Raises:
        InfeasibleBudget: no candidate is predicted to meet the smallest budget, a percentage being one of the predicted
            latency of the dense network.
        BudgetError: the whole front is wanted, and no candidate is faster than the dense network.
        ArtifactCorrupt: the predictor in the run directory is damaged.
    """
    target, predictor = Device.from_config(device).target, LatencyPredictor.load(run_dir / "predictor")
    space = supernet.space

    def latency(candidate: Candidate) -> float:
        return predictor.predict_network(timed_specs(space, candidate, target)).upper_ms

    dense = predictor.predict_network(timed_specs(space, space.largest(), target)).mean_ms
    budget_ms = budgets.resolve(dense, lambda: fastest_ms(space, latency))[-1]
    if latency(space.smallest()) > budget_ms:
        FeasibleSet(Encoding(space), latency, budget_ms)


def fastest_ms(space: ChoiceSpace, latency: LatencyFunction) -> float:
    """Predicted latency of the fastest candidate."""
    everything = FeasibleSet(Encoding(space), latency, math.inf)
    return everything.latency_ms(everything.fastest)


def _trained(config: Mapping[str, Any], dataset: Dataset) -> SuperNet:
    """The supernet of the run directory."""
    supernet = SuperNet(make_space(config["space"], dataset.input_shape, dataset.classes), seed=config["seed"])
    supernet.load_state_dict(load_checkpoint(Path(config["run_dir"]) / "supernet.safetensors")["supernet"])
    return supernet.eval()


def _recipe(config: Mapping[str, Any]) -> EvaluationRecipe:
    settings = config["search"]
    return EvaluationRecipe(
        recalibration_batches=settings["recalibration_batches"],
        augment=SupernetRecipe(**config.get("training", {}).get("supernet", {})).augment,
        pictures=settings.get("pictures"),
        steps=settings.get("steps", 0),
    )


def _target(device: Mapping[str, Any]) -> Target:
    return Device.from_config(device).target


def _dense_ms(
    supernet: SuperNet | OwnModel,
    input_shape: tuple[int, ...],
    device: Mapping[str, Any],
    cluster: Cluster,
    file: Path,
) -> float:
    """Measured latency of the dense network in milliseconds, kept in `file`."""
    if not file.exists():
        network = supernet.extract(supernet.space.largest()).eval()
        timing = cluster.on_device(_time, network, input_shape, device)
        written = file.with_name(file.name + ".part")
        written.write_text(json.dumps({"measured_ms": timing.median_ms, "spread": timing.spread, "runs": timing.runs}))
        os.replace(written, file)
    return float(json.loads(file.read_text())["measured_ms"])


def _time(network: nn.Module, input_shape: tuple[int, ...], device: Mapping[str, Any]) -> Timing:
    return compile_model(network, torch.zeros(1, *input_shape), device=_target(device)).time(_SECONDS)
