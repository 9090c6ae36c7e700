"""Pretrained networks pruned and fine-tuned through the public API; what was stopped goes on at its last epoch."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.channels import slimmed
from benchmarks.errors import ResultsMissing
from benchmarks.pretrained import load_pretrained, stages
from compiler import CompiledModel, compile_model
from pruning import Sparsity, make_algorithm
from pruning.algorithm import Algorithm
from training import Dataset, Recipe, batches, evaluate, fit, recalibrate_batch_norm

IMAGE = torch.zeros(1, 3, 32, 32)
RECALIBRATION_BATCHES = 100


@dataclass(frozen=True)
class Run:
    """One network to prune and train.

    Attributes:
        depth: of the ResNet.
        epochs: of all training, those that the algorithm takes until its masks are fixed among them.
        scheme, rates: of the three stages' convolutions; empty for a run of the peer.
        algorithm, options: how the sparsity is reached, in the first `pruning_epochs`.
        as_fast_as: the run whose latency the peer has to equal; None for a run of ours.
    """

    name: str
    depth: int
    epochs: int
    lr: float
    seed: int
    scheme: str = ""
    rates: tuple[float, ...] = ()
    algorithm: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    pruning_epochs: int = 0
    as_fast_as: str | None = None

    @property
    def label(self) -> str:
        """Name and seed, which no other run has both of."""
        return f"{self.name}-seed{self.seed}"

    def plan(self, model: nn.Module) -> dict[str, Sparsity]:
        """Sparsity of every convolution behind the stem."""
        by_stage = zip(stages(model), self.rates, strict=True)
        return {name: Sparsity(self.scheme, rate) for names, rate in by_stage for name in names}


class Workshop:
    """What all runs share: pictures, published weights, recipe, and a folder with one folder a run."""

    def __init__(self, data: Dataset, weights: Mapping[int, Path], recipe: Mapping[str, Any], folder: Path) -> None:
        self.data = data
        self.weights = weights
        self.recipe = recipe
        self.folder = folder

    def dense(self, depth: int) -> nn.Module:
        """The published network."""
        return load_pretrained(depth, self.weights[depth])

    def pruned(self, run: Run) -> tuple[nn.Module, Algorithm | None]:
        """The published network, ready to be trained, and the algorithm that prunes it; the peer's is pruned already.

        Raises:
            ResultsMissing: if it is the peer's and its ratio was not matched yet.
        """
        model = self.dense(run.depth)
        if run.as_fast_as is None:
            return model, make_algorithm(run.algorithm, model, run.plan(model), IMAGE, **run.options)
        path = self.ratio_path(run)
        if not path.exists():
            raise ResultsMissing(f"{path} is not there; match it first with python -m benchmarks.cifar --steps match")
        return slimmed(model, IMAGE, json.loads(path.read_text())["ratio"]), None

    def ratio_path(self, run: Run) -> Path:
        """Where the peer's ratio is kept."""
        return self.folder / f"{run.name}.json"

    def train(self, run: Run) -> None:
        """Prune, train and test; writes `result.json` last, and does nothing if it is there."""
        folder = self.folder / run.label
        if (folder / "result.json").exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        model, algorithm = self.pruned(run)
        teacher = Compiled(compile_model(self.dense(run.depth), IMAGE))
        if algorithm is not None:
            if run.pruning_epochs:
                self._fit(model, run, run.pruning_epochs, folder / "pruning.safetensors", teacher, algorithm)
            algorithm.finish()
        rest = run.epochs - run.pruning_epochs
        self._fit(model, run, rest, folder / "masked.safetensors", teacher, algorithm)
        self.recalibrate(model)
        save_file(model.state_dict(), folder / "model.safetensors")
        metrics = evaluate(model, self.data.test)
        (folder / "result.json").write_text(json.dumps({**asdict(run), "accuracy": metrics.accuracy}))

    def trained(self, run: Run) -> tuple[nn.Module, float]:
        """The network of a finished run in evaluation mode, and its accuracy on the test pictures.

        Raises:
            ResultsMissing: if the run is not finished.
        """
        path = self.folder / run.label / "result.json"
        if not path.exists():
            raise ResultsMissing(f"{path} is not there; train it first with python -m benchmarks.cifar --steps train")
        model, _ = self.pruned(run)
        model.load_state_dict(load_file(path.with_name("model.safetensors")))
        return model.eval(), json.loads(path.read_text())["accuracy"]

    def recalibrate(self, model: nn.Module) -> None:
        """Batch norms measured anew under the training's augmentation."""
        recipe = Recipe(**self.recipe)
        generator = torch.Generator().manual_seed(0)
        passes = batches(self.data.train, recipe.batch_size, generator=generator, augment=recipe.augment)
        recalibrate_batch_norm(model, (images for images, _ in islice(passes, RECALIBRATION_BATCHES)))

    def _fit(
        self, model: nn.Module, run: Run, epochs: int, checkpoint: Path, teacher: nn.Module, algorithm: Algorithm | None
    ) -> None:
        recipe = replace(Recipe(**self.recipe), epochs=epochs, lr=run.lr)
        fit(
            model,
            self.data,
            recipe,
            algorithm=algorithm,
            teacher=teacher,
            seed=run.seed,
            checkpoint=checkpoint,
            on_epoch=lambda row: print(f"{run.label} {_figures(row)}", flush=True),
        )


class Compiled(nn.Module):
    """A compiled network as a teacher: its forward pass takes a third of torch's time."""

    def __init__(self, network: CompiledModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits


def dense_copy(model: nn.Module) -> nn.Module:
    """A copy that may be changed."""
    return copy.deepcopy(model)


def _figures(row: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in row.items() if "/" not in key)
