"""Fine-tuning one network: the dense one, or a candidate with its pruning algorithm."""

from __future__ import annotations

import shutil
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig
from torch import nn

from compiler import CompiledModel, compile_model
from pruning import Algorithm, make_algorithm
from scripts import inputs, networks
from scripts import supernet as supernet_stage
from scripts.console import progress, training_shown
from scripts.files import read_json, write_json
from scripts.side_by_side import compare
from search import Bracket, Tournament, fit_pruned
from search.calibration import latency_of_run
from search.cluster.parcel import pack_compiled
from supernet import Candidate, OwnModel, SuperNet
from training import evaluate, fit, recalibrate_as_trained

_SECONDS = 0.6


class Tuner:
    """What all fine-tunes of a run share: data, supernet, predictor, recipe, and the dense network as teacher.

    Each writes `model.safetensors` and then `candidate.json` to its folder; a folder with the latter is finished. One
    that was stopped goes on after its last whole epoch.
    """

    def __init__(self, config: DictConfig, run_dir: Path) -> None:
        """Trains the dense network, unless that was done before; one of the user's own is trained already."""
        self.config = config
        self.data = inputs.dataset(config)
        self.recipe = inputs.finetune_recipe(config)
        self.supernet = supernet_stage.load(config, run_dir)
        self._target = inputs.device(config).target
        self.latency = latency_of_run(self.supernet.space, self._target, run_dir)
        self._example = torch.zeros(1, *self.data.input_shape)
        folder = run_dir / "dense"
        if not (folder / "candidate.json").exists():
            self._train_dense(folder)
        self.dense = networks.load(config, folder / "model.safetensors")
        self._dense_compiled = pack_compiled(self._compile(self.dense))

    def measure(self, candidate: Candidate) -> tuple[float, float]:
        """Milliseconds of the candidate and of the dense network, taking turns; the latency needs no training."""
        compiled = self._compile(self.supernet.extract(candidate).eval())
        networks = {"candidate": pack_compiled(compiled), "dense": self._dense_compiled}
        rows, _ = inputs.cluster(self.config).on_device(compare, networks, None, _SECONDS)
        candidate_ms, dense_ms = (float(row["measured_ms"]) for row in rows)
        return candidate_ms, dense_ms

    def prune(self, candidate: Candidate, folder: Path, supernet_accuracy: float) -> None:
        """Prune and train a candidate from the supernet's weights, distilling from the dense network.

        `extract` removes its filters and channels; all other sparsity is reached by the algorithm, from dense weights,
        in its first epochs. In the rest the masks hold.
        """
        pruning = self._pruning(candidate, folder.parent / TOURNAMENT)
        network, algorithm = self._prunable(candidate, pruning.algorithm, inputs.mapping(pruning.options))
        with training_shown(f"winner {folder.name}", self.recipe.epochs) as show:
            fit_pruned(
                network,
                self.data,
                self.recipe,
                algorithm,
                pruning.epochs,
                folder / _UNFINISHED,
                teacher=self.dense,
                seed=self.config.seed,
                on_epoch=show,
            )
        recalibrate_as_trained(network, self.data, self.recipe, seed=self.config.seed)
        self._finish(network, candidate, folder, supernet_accuracy, pruning.algorithm)

    def _pruning(self, candidate: Candidate, folder: Path) -> DictConfig:
        """Algorithm, epochs and options of all winners: those of the group `pruning`, or of the winner of a tournament
        that is held once, on the first candidate."""
        bracket = inputs.bracket(self.config)
        if bracket is None:
            pruning: DictConfig = self.config.pruning
            return pruning
        if not (folder / "result.json").exists():
            self._hold(bracket, candidate, folder)
        chosen: DictConfig = self.config.tournament.long[read_json(folder / "result.json")["winner"]]
        return chosen

    def _hold(self, bracket: Bracket, candidate: Candidate, folder: Path) -> None:
        tournament = Tournament(
            lambda entrant: self._prunable(candidate, entrant.algorithm, entrant.options),
            bracket,
            self.data,
            self.recipe,
            folder / _UNFINISHED,
            teacher=self.dense,
            seed=self.config.seed,
        )
        with progress() as bar:
            task = bar.add_task("tournament, epoch", total=bracket.epochs * len(bracket.entrants), note="")
            result = tournament.run(
                lambda name, epoch, accuracy: bar.update(
                    task, advance=1, note=f"{name} {epoch}: validation {accuracy:.1f} %"
                )
            )
        (folder / _UNFINISHED / "study.db").replace(folder / "study.db")
        write_json(
            folder / "result.json",
            {
                "winner": result.winner,
                "candidate": [str(choice) for choice in candidate.choices],
                "table": _records(result.table),
                "curves": _records(result.curves),
            },
        )
        shutil.rmtree(folder / _UNFINISHED)

    def _prunable(
        self, candidate: Candidate, algorithm: str, options: Mapping[str, Any]
    ) -> tuple[nn.Module, Algorithm]:
        """The candidate's network, dense but for its filters and channels, and the algorithm that prunes it."""
        network: nn.Module = self.supernet.extract(candidate, masked=False)
        return network, make_algorithm(algorithm, network, self.supernet.plan(candidate), self._example, **options)

    def _train_dense(self, folder: Path) -> None:
        candidate = self.supernet.space.largest()
        network: nn.Module = self.supernet.extract(candidate)
        if isinstance(self.supernet, SuperNet):
            with training_shown("dense network", self.recipe.epochs) as show:
                checkpoint = folder / _UNFINISHED / "dense.safetensors"
                fit(network, self.data, self.recipe, seed=self.config.seed, on_epoch=show, checkpoint=checkpoint)
            recalibrate_as_trained(network, self.data, self.recipe, seed=self.config.seed)
        self._finish(network, candidate, folder, None, None)

    def _finish(
        self,
        network: nn.Module,
        candidate: Candidate,
        folder: Path,
        supernet_accuracy: float | None,
        algorithm: str | None,
    ) -> None:
        networks.save(network.eval(), candidate, folder / "model.safetensors")
        prediction = self.latency(candidate)
        write_json(
            folder / "candidate.json",
            {
                "candidate": [str(choice) for choice in candidate.choices],
                "sites": list(self.supernet.space.site_names) if isinstance(self.supernet, OwnModel) else [],
                "validation_accuracy": evaluate(network, self.data.validation).accuracy,
                "supernet_accuracy": supernet_accuracy,
                "predicted_ms": prediction.mean_ms,
                "predicted_lower_ms": prediction.lower_ms,
                "predicted_upper_ms": prediction.upper_ms,
                "epochs": self.recipe.epochs,
                "algorithm": algorithm,
            },
        )
        if (folder / _UNFINISHED).exists():
            for checkpoint in (folder / _UNFINISHED).iterdir():
                checkpoint.unlink()
            (folder / _UNFINISHED).rmdir()

    def _compile(self, network: nn.Module) -> CompiledModel:
        return compile_model(network, self._example, device=self._target)


def _records(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Rows for a JSON file, which has no NaN."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


TOURNAMENT = "tournament"
_UNFINISHED = "unfinished"
