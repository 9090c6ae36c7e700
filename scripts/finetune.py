"""Prune and fine-tune the best candidates that meet the budget when they are measured, and the dense network."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from rich.progress import Progress

from compiler import CompiledModel, compile_model
from latency_model import Device, LatencyPredictor, compare_runtimes
from pruning import make_algorithm
from scripts import inputs
from scripts import supernet as supernet_stage
from scripts.console import progress, say
from scripts.errors import NoWinner
from scripts.files import read_json, write_json
from scripts.shortlist import preference
from scripts.trials import finished_trials
from search import kernel_specs, pareto_front
from supernet import Candidate, Network, SuperNet, extract
from training import Dataset, Recipe, evaluate, fit, recalibrate_batch_norm

_QUICK_SECONDS = 0.6


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `dense/`, `winners/<n>/` and `shortlist.json`; what an interrupted run finished is kept.

    Candidates are compiled and measured beside the dense network *before* the fine-tune, as latency does not depend
    on it. One that misses the budget is noted in the shortlist and the next one is tried.

    Raises:
        NoWinner: not one candidate meets the budget by measurement.
    """
    tuner = FineTuner(config, run_dir)
    tuner.dense()
    trials = finished_trials(run_dir / "study.db")
    shortlist = _Shortlist(run_dir / "shortlist.json")
    for row in preference(trials):
        if shortlist.enough(config):
            break
        tuner.try_candidate(trials.loc[row], shortlist)
    if not shortlist.taken:
        measured = [entry["measured_ms"] for entry in shortlist.entries]
        raise NoWinner(len(measured), shortlist.entries[-1]["budget_ms"], min(measured))
    if not shortlist.enough(config):
        say(f"all {len(trials)} candidates were tried; {len(shortlist.taken)} meet the budget by measurement")


def finished_networks(run_dir: Path) -> list[Path]:
    """Folders of the dense network and of the fine-tuned winners, in this order."""
    winners = (run_dir / "winners").glob("*/candidate.json")
    return [run_dir / "dense", *sorted((path.parent for path in winners), key=lambda folder: int(folder.name))]


class _Shortlist:
    """What was tried as a winner, in order, kept in a JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = read_json(path) if path.exists() else []

    @property
    def taken(self) -> list[dict[str, Any]]:
        """Entries that were fine-tuned."""
        return [entry for entry in self.entries if entry["winner"] is not None]

    def find(self, candidate: str) -> dict[str, Any] | None:
        return next((entry for entry in self.entries if entry["candidate"] == candidate), None)

    def put(self, entry: dict[str, Any]) -> None:
        """Add the entry, or replace the one of the same candidate."""
        others = [other for other in self.entries if other["candidate"] != entry["candidate"]]
        self.entries = [*others, entry]
        write_json(self.path, self.entries)

    def enough(self, config: DictConfig) -> bool:
        """Whether the winners are as many as wanted, and enough of them not dominated by another."""
        taken = pd.DataFrame(self.taken)
        if len(taken) < config.winners.at_least:
            return False
        front = pareto_front(taken, maximise="validation_accuracy", minimise="measured_ms")
        return len(front) >= config.winners.pareto or len(taken) >= config.winners.at_most


class FineTuner:
    """Everything that training the networks of one run has in common."""

    def __init__(self, config: DictConfig, run_dir: Path) -> None:
        self.config = config
        self.run_dir = run_dir
        self.data: Dataset = inputs.dataset(config)
        self.device: Device = inputs.device(config)
        self.recipe: Recipe = inputs.finetune_recipe(config)
        self.supernet: SuperNet = supernet_stage.load(config, run_dir)
        self.predictor = LatencyPredictor.load(run_dir / "predictor")
        self.example = torch.zeros(1, *self.data.input_shape)
        self._dense: tuple[Network, CompiledModel] | None = None

    def dense(self) -> tuple[Network, CompiledModel]:
        """The dense network, trained as long as the winners are, and compiled."""
        if self._dense is None:
            folder = self.run_dir / "dense"
            candidate = self.supernet.space.largest()
            if not (folder / "candidate.json").exists():
                network = extract(self.supernet, candidate)
                with self._epochs("fine-tuning dense network") as show:
                    fit(
                        network,
                        self.data,
                        self.recipe,
                        seed=self.config.seed,
                        on_epoch=show,
                        checkpoint=_checkpoint(folder, "training"),
                    )
                self._finish(network, candidate, folder, supernet_accuracy=None)
            network = Network.load(folder / "model.safetensors").eval()
            self._dense = network, compile_model(network, self.example, device=self.device.target)
        return self._dense

    def try_candidate(self, trial: pd.Series[Any], shortlist: _Shortlist) -> None:
        """Measure the candidate of a trial, and fine-tune it if it meets the budget."""
        entry = shortlist.find(trial["candidate"])
        if entry is None:
            entry = self._measure(trial)
            shortlist.put(entry)
        if not entry["within_budget"] or entry["winner"] is not None:
            return
        number = len(shortlist.taken) + 1
        folder = self.run_dir / "winners" / str(number)
        if not (folder / "candidate.json").exists():
            self._prune(Candidate.from_json(entry["candidate"]), folder, entry["supernet_accuracy"])
        accuracy = read_json(folder / "candidate.json")["validation_accuracy"]
        shortlist.put({**entry, "winner": number, "validation_accuracy": accuracy})

    def _measure(self, trial: pd.Series[Any]) -> dict[str, Any]:
        _, dense = self.dense()
        network = extract(self.supernet, Candidate.from_json(trial["candidate"])).eval()
        compiled = compile_model(network, self.example, device=self.device.target)
        table = compare_runtimes(compiled, {"dense": dense.run_once()}, seconds=_QUICK_SECONDS)
        measured_ms, dense_ms = table["measured_ms"].astype(float)
        budget_ms = inputs.budget(self.config).resolve(dense_ms)
        within = measured_ms <= budget_ms * (1 - self.config.winners.margin)
        say(
            f"candidate of trial {trial['number']}: {measured_ms:.3f} ms measured, budget {budget_ms:.3f} ms, "
            + ("taken" if within else "left out")
        )
        return {
            "candidate": trial["candidate"],
            "supernet_accuracy": float(trial["accuracy"]),
            "predicted_ms": float(trial["predicted_ms"]),
            "measured_ms": float(measured_ms),
            "budget_ms": float(budget_ms),
            "within_budget": bool(within),
            "winner": None,
            "validation_accuracy": None,
        }

    def _prune(self, candidate: Candidate, folder: Path, supernet_accuracy: float) -> None:
        """`extract` removes filters and channels; all else is pruned by the algorithm, from dense weights."""
        teacher, _ = self.dense()
        pruning = self.config.pruning
        network = extract(self.supernet, candidate, masked=False)
        options = {str(key): value for key, value in (OmegaConf.to_container(pruning.options) or {}).items()}
        algorithm = make_algorithm(pruning.algorithm, network, network.plan, self.example, **options)
        phases = {"pruning": pruning.epochs, "masked": self.recipe.epochs - pruning.epochs}
        with self._epochs(f"fine-tuning winner {folder.name}") as show:
            for phase, epochs in phases.items():
                if phase == "masked":
                    algorithm.finish()
                if epochs:
                    fit(
                        network,
                        self.data,
                        replace(self.recipe, epochs=epochs),
                        algorithm=algorithm,
                        teacher=teacher,
                        seed=self.config.seed,
                        on_epoch=show,
                        checkpoint=_checkpoint(folder, phase),
                    )
        self._finish(network, candidate, folder, supernet_accuracy)

    def _finish(self, network: Network, candidate: Candidate, folder: Path, supernet_accuracy: float | None) -> None:
        size = self.recipe.batch_size
        recalibrate_batch_norm(network, self.data.train.images.split(size))
        network.eval().save(folder / "model.safetensors")
        prediction = self.predictor.predict_network(kernel_specs(self.supernet.space, candidate))
        write_json(
            folder / "candidate.json",
            {
                "candidate": [str(choice) for choice in candidate.choices],
                "validation_accuracy": evaluate(network, self.data.validation).accuracy,
                "supernet_accuracy": supernet_accuracy,
                "predicted_ms": prediction.mean_ms,
                "predicted_lower_ms": prediction.lower_ms,
                "predicted_upper_ms": prediction.upper_ms,
                "epochs": self.recipe.epochs,
            },
        )
        for checkpoint in folder.glob(f"{_UNFINISHED}*"):
            checkpoint.unlink()

    @contextmanager
    def _epochs(self, what: str) -> Iterator[Any]:
        with progress("epochs") as bar:
            task = bar.add_task(what, total=self.recipe.epochs, note="")
            yield lambda row: _show(bar, task, row)


_UNFINISHED = "unfinished-"


def _checkpoint(folder: Path, phase: str) -> Path:
    return folder / f"{_UNFINISHED}{phase}.safetensors"


def _show(bar: Progress, task: Any, row: Mapping[str, float]) -> None:
    bar.update(task, advance=1, note=f"validation {row['validation_accuracy']:.1f} %")


if __name__ == "__main__":
    from scripts.cli import main

    main(["finetune", *sys.argv[1:]])
