"""A whole search from a resolved configuration and the earlier stages of its run directory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compiler import Target, Timing, compile_model
from latency_model import Device, LatencyPredictor, compare_runtimes
from search.budget import Budgets
from search.calibration import CALIBRATION, calibration_factor
from search.candidate_latency import CandidateLatency
from search.cluster import Cluster, make_cluster
from search.distortion_file import DISTORTIONS, distortions_of
from search.driver import Search
from search.encoding import Encoding
from search.evaluator import SupernetEvaluator
from search.feasible import FeasibleSet
from search.result import Evaluation, SearchResult
from search.samplers import check_sampler
from search.study import STUDY_NAME, copy_to_file, name_in, require_no_more_in
from supernet import (
    Candidate,
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

    A search that was stopped is continued. With `config["storage"]`, the URL of a database or the path of a file, the
    study lies there, and `study.db` is a copy of it when the search is over.

    Args:
        config: as for `prepare_search`.
        on_trial: called after every evaluation.
        on_start: called before the first one, with what the study holds already.
        on_site: as for `prepare_search`.
        supernet: what candidates are cut from; by default the supernet of the run directory.

    Raises:
        BudgetError, InfeasibleBudget, ArtifactCorrupt, CheckpointNotFound, ClusterError: as `prepare_search` does.
        StudyBusy, StudyCorrupt, StudyMismatch, StorageUnreachable: the study cannot be continued.
        StudyElsewhere: `study.db` has trials that the study in the storage does not have.
    """
    storage, file = config.get("storage"), Path(config["run_dir"]) / STUDY
    if storage:
        require_no_more_in(file, storage, config.get("study", STUDY_NAME))
    search = prepare_search(config, on_site=on_site, supernet=supernet)
    result = search.run(on_trial, on_start=on_start)
    if storage:
        copy_to_file(storage, search.study, file)
    return result


def prepare_search(
    config: Mapping[str, Any],
    *,
    on_site: Callable[[int, int], None] | None = None,
    supernet: SuperNet | OwnModel | None = None,
) -> Search:
    """The search that a configuration describes, not yet begun.

    The dense network's latency, to which a budget in percent refers, is measured once and kept in `dense.json`; how far
    choices move its outputs in `distortions.json`; how far the latency predictor is off for candidates like those that
    the search will look for in `calibration.json`.

    Args:
        config: plain values with the keys of `conf/config.yaml`: `run_dir`, `data`, `space`, `device`, `budget`,
            `seed` and `search` (`sampler`, `trials`, `recalibration_batches`, and optionally `pictures`, `steps` and
            `options`). Pictures are augmented as `training.supernet` says, if it is there. Without `cluster` all runs
            in this process. The study lies in `study.db`, or, with `storage`, in the file or database of that name.
        on_site: called while distortions are found, with the number of sites that are done and of all.
        supernet: what candidates are cut from; by default the supernet of the run directory.

    Raises:
        UnknownSampler, UnknownSamplerOption, InvalidRecipe: see `check_sampler` and `EvaluationRecipe`.
        BudgetError, InfeasibleBudget: a budget is not understood, or no candidate meets it.
        CheckpointNotFound, CheckpointCorrupt, ArtifactCorrupt: an earlier stage is missing or damaged.
        ClusterError: the cluster cannot be used.
        DistortionFailed, DistortionsCorrupt: distortions cannot be found, or the file with them is damaged.
        PredictorOff, CalibrationCorrupt: the predictor is of another device, or the file about it is damaged.
    """
    run_dir, settings = Path(config["run_dir"]), config["search"]
    budgets = Budgets.parse(config["budget"])
    options = settings.get("options") or {}
    check_sampler(settings["sampler"], options)
    recipe = evaluation_recipe(config)
    cluster = make_cluster(config.get("cluster", {"driver": "local"}), config["device"]["name"])
    cluster.check(settings["trials"])
    data = config["data"]
    dataset = load_dataset(data["name"], data["root"], validation=data["validation"])
    if supernet is None:
        supernet = _trained(config, dataset)
    space = supernet.space
    dense_ms = _dense_ms(supernet, dataset.input_shape, config["device"], cluster, run_dir / DENSE)
    target = cluster.on_device(_target, config["device"])
    predicted = CandidateLatency(space, LatencyPredictor.load(run_dir / "predictor"), target)

    @cache
    def distortions() -> Distortions:
        told = None if on_site is None else lambda done: on_site(done, len(space.site_names))
        return distortions_of(supernet, dataset, run_dir / DISTORTIONS, seed=config["seed"], on_site=told)

    def measure(candidates: Sequence[Candidate]) -> list[float]:
        networks = [supernet.extract(candidate).eval() for candidate in (space.largest(), *candidates)]
        shares = cluster.on_device(_shares, networks, dataset.input_shape, config["device"])
        return [share * dense_ms for share in shares]

    def limits_ms(latency: CandidateLatency) -> tuple[float, ...]:
        return budgets.resolve(dense_ms, lambda: fastest_ms(latency))

    factor = calibration_factor(predicted, limits_ms(predicted), distortions, measure, run_dir / CALIBRATION)
    corrected = predicted.corrected(factor)
    return Search(
        space,
        SupernetEvaluator(supernet, dataset, recipe, seed=config["seed"]),
        corrected,
        limits_ms(corrected),
        config.get("storage") or run_dir / STUDY,
        sampler=settings["sampler"],
        trials=settings["trials"],
        seed=config["seed"],
        options=options,
        cluster=cluster,
        study=config.get("study", STUDY_NAME) if config.get("storage") else name_in(run_dir / STUDY),
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
    space, predictor = supernet.space, LatencyPredictor.load(run_dir / "predictor")
    latency = CandidateLatency(space, predictor, Device.from_config(device).target)
    budget_ms = budgets.resolve(latency(space.largest()).mean_ms, lambda: fastest_ms(latency))[-1]
    if latency.upper_ms(space.smallest()) > budget_ms:
        FeasibleSet(Encoding(space), latency.upper_ms, budget_ms)


def fastest_ms(latency: CandidateLatency) -> float:
    """Predicted latency of the fastest candidate."""
    everything = FeasibleSet(Encoding(latency.space), latency.upper_ms, math.inf)
    return everything.latency_ms(everything.fastest)


def _trained(config: Mapping[str, Any], dataset: Dataset) -> SuperNet:
    """The supernet of the run directory."""
    supernet = SuperNet(make_space(config["space"], dataset.input_shape, dataset.classes), seed=config["seed"])
    supernet.load_state_dict(load_checkpoint(Path(config["run_dir"]) / "supernet.safetensors")["supernet"])
    return supernet.eval()


def evaluation_recipe(config: Mapping[str, Any]) -> EvaluationRecipe:
    """How candidates are judged; raises InvalidRecipe."""
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


def _shares(networks: Sequence[nn.Module], input_shape: tuple[int, ...], device: Mapping[str, Any]) -> list[float]:
    """Latencies of all networks but the first as shares of the first one's, taking turns."""
    example, target = torch.zeros(1, *input_shape), _target(device)
    dense, *others = (compile_model(network, example, device=target) for network in networks)
    peers = {str(number): compiled.run_once() for number, compiled in enumerate(others)}
    ratios: list[float] = compare_runtimes(dense, peers, seconds=_SECONDS)["ratio"].tolist()
    return ratios[1:]


def _time(network: nn.Module, input_shape: tuple[int, ...], device: Mapping[str, Any]) -> Timing:
    return compile_model(network, torch.zeros(1, *input_shape), device=_target(device)).time(_SECONDS)
