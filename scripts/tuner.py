"""Fine-tuning one network: the dense one, or a candidate with its pruning algorithm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from compiler import CompiledModel, compile_model
from latency_model import LatencyPredictor, compare_runtimes
from pruning import make_algorithm
from scripts import inputs, networks
from scripts import supernet as supernet_stage
from scripts.console import progress
from scripts.files import write_json
from search import kernel_specs
from supernet import Candidate, OwnModel, SuperNet
from training import evaluate, fit, recalibrate_as_trained
from training.hooks import Hooks

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
        self.predictor = LatencyPredictor.load(run_dir / "predictor")
        self._target = inputs.device(config).target
        self._example = torch.zeros(1, *self.data.input_shape)
        folder = run_dir / "dense"
        if not (folder / "candidate.json").exists():
            self._train_dense(folder)
        self.dense = networks.load(config, folder / "model.safetensors")
        self._dense_compiled = self._compile(self.dense)

    def measure(self, candidate: Candidate) -> tuple[float, float]:
        """Milliseconds of the candidate and of the dense network, taking turns; the latency needs no training."""
        compiled = self._compile(self.supernet.extract(candidate).eval())
        table = compare_runtimes(compiled, {"dense": self._dense_compiled.run_once()}, seconds=_SECONDS)
        candidate_ms, dense_ms = table["measured_ms"].tolist()
        return candidate_ms, dense_ms

    def prune(self, candidate: Candidate, folder: Path, supernet_accuracy: float) -> None:
        """Prune and train a candidate from the supernet's weights, distilling from the dense network.

        `extract` removes its filters and channels; all other sparsity is reached by the algorithm, from dense weights,
        in the first `pruning.epochs`. In the rest the masks hold.
        """
        pruning = self.config.pruning
        network: nn.Module = self.supernet.extract(candidate, masked=False)
        algorithm = make_algorithm(
            pruning.algorithm, network, self.supernet.plan(candidate), self._example, **inputs.mapping(pruning.options)
        )
        with self._epochs(f"winner {folder.name}, epoch") as show:
            if pruning.epochs:
                self._fit(network, pruning.epochs, folder / _UNFINISHED / "pruning.safetensors", show, algorithm)
            algorithm.finish()
            rest = self.recipe.epochs - pruning.epochs
            self._fit(network, rest, folder / _UNFINISHED / "masked.safetensors", show, algorithm)
        recalibrate_as_trained(network, self.data, self.recipe, seed=self.config.seed)
        self._finish(network, candidate, folder, supernet_accuracy)

    def _train_dense(self, folder: Path) -> None:
        candidate = self.supernet.space.largest()
        network: nn.Module = self.supernet.extract(candidate)
        if isinstance(self.supernet, SuperNet):
            with self._epochs("dense network, epoch") as show:
                self._fit(network, self.recipe.epochs, folder / _UNFINISHED / "dense.safetensors", show)
            recalibrate_as_trained(network, self.data, self.recipe, seed=self.config.seed)
        self._finish(network, candidate, folder, None)

    def _fit(
        self,
        network: nn.Module,
        epochs: int,
        checkpoint: Path,
        show: Callable[[Mapping[str, float]], None],
        algorithm: Hooks | None = None,
    ) -> None:
        fit(
            network,
            self.data,
            replace(self.recipe, epochs=epochs, warmup_epochs=min(self.recipe.warmup_epochs, epochs)),
            algorithm=algorithm,
            teacher=None if algorithm is None else self.dense,
            seed=self.config.seed,
            on_epoch=show,
            checkpoint=checkpoint,
        )

    def _finish(self, network: nn.Module, candidate: Candidate, folder: Path, supernet_accuracy: float | None) -> None:
        networks.save(network.eval(), candidate, folder / "model.safetensors")
        prediction = self.predictor.predict_network(kernel_specs(self.supernet.space, candidate, self._target))
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
            },
        )
        if (folder / _UNFINISHED).exists():
            for checkpoint in (folder / _UNFINISHED).iterdir():
                checkpoint.unlink()
            (folder / _UNFINISHED).rmdir()

    def _compile(self, network: nn.Module) -> CompiledModel:
        return compile_model(network, self._example, device=self._target)

    @contextmanager
    def _epochs(self, what: str) -> Iterator[Callable[[Mapping[str, float]], None]]:
        with progress() as bar:
            task = bar.add_task(what, total=self.recipe.epochs, note="")
            yield lambda row: bar.update(task, advance=1, note=f"validation {row['validation_accuracy']:.1f} %")


_UNFINISHED = "unfinished"
