"""Pretrained networks pruned and fine-tuned through the public API; what was stopped goes on at its last epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.channels import slimmed
from benchmarks.errors import AnotherRun, ResultsMissing
from benchmarks.pretrained import load_pretrained, stages
from benchmarks.zoo.cifar_resnet import CifarResNet
from compiler import CompiledModel, compile_model
from pruning import Algorithm, Sparsity, make_algorithm
from search import fit_pruned
from training import Dataset, Recipe, evaluate, fit, recalibrate_as_trained
from training.files import replacing

IMAGE = torch.zeros(1, 3, 32, 32)
RECALIBRATION_BATCHES = 100


@dataclass(frozen=True)
class Run:
    """One network to prune and train.

    Attributes:
        depth: of the ResNet.
        epochs: of all training, those that the algorithm takes until its masks are fixed among them.
        sparsities: as text, of the convolutions of the three stages, or of layers by name; empty for a run of the peer.
        algorithm, options: how the sparsity is reached, in the first `pruning_epochs`.
        as_fast_as: the run whose latency the peer has to equal; None for a run of ours.
    """

    name: str
    depth: int
    epochs: int
    lr: float
    seed: int
    sparsities: tuple[str, ...] | Mapping[str, str] = ()
    algorithm: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    pruning_epochs: int = 0
    as_fast_as: str | None = None

    @property
    def label(self) -> str:
        """Name and seed, which no other run has both of."""
        return f"{self.name}-seed{self.seed}"

    def plan(self, model: CifarResNet) -> dict[str, Sparsity]:
        """Sparsity of every convolution behind the stem that is pruned."""
        if isinstance(self.sparsities, Mapping):
            return {name: Sparsity.parse(text) for name, text in self.sparsities.items()}
        by_stage = zip(stages(model), map(Sparsity.parse, self.sparsities), strict=True)
        return {name: sparsity for names, sparsity in by_stage for name in names if not sparsity.dense}


class Workshop:
    """What all runs share: pictures, published weights, recipe, and a folder with one folder a run."""

    def __init__(self, data: Dataset, weights: Mapping[int, Path], recipe: Mapping[str, Any], folder: Path) -> None:
        self.data = data
        self.weights = weights
        self.recipe = recipe
        self.folder = folder

    def dense(self, depth: int) -> CifarResNet:
        """The published network."""
        return load_pretrained(depth, self.weights[depth])

    def pruned(self, run: Run) -> tuple[CifarResNet, Algorithm | None]:
        """The published network, ready to be trained, and the algorithm that prunes it; the peer's is pruned already.

        Raises:
            ResultsMissing: if it is the peer's and its ratio was not matched yet.
        """
        model = self.dense(run.depth)
        if run.as_fast_as is None:
            return model, make_algorithm(run.algorithm, model, run.plan(model), IMAGE, **run.options)
        return slimmed(model, IMAGE, self.ratio(run)), None

    def ratio_path(self, run: Run) -> Path:
        """Where the peer's ratio is kept."""
        return self.folder / f"{run.name}.json"

    def ratio(self, run: Run) -> float:
        """What torch-pruning is told, so that its network takes as long as ours.

        Raises:
            ResultsMissing: if it was not matched yet.
        """
        path = self.ratio_path(run)
        if not path.exists():
            raise ResultsMissing(f"{path} is not there; match it first with python -m benchmarks.cifar --steps match")
        return float(json.loads(path.read_text())["ratio"])

    def train(self, run: Run) -> None:
        """Prune, train and test; writes `result.json` last, and does nothing if it is there.

        Raises:
            AnotherRun: if what is there is of other settings.
        """
        if self._result(run) is not None:
            return
        folder = self.folder / run.label
        model, algorithm = self.pruned(run)
        teacher = Compiled(compile_model(self.dense(run.depth), IMAGE))
        recipe = replace(Recipe(**self.recipe), epochs=run.epochs, lr=run.lr)

        def show(row: Mapping[str, float]) -> None:
            figures = (f"{key} {value:.4g}" for key, value in row.items() if "/" not in key)
            print(f"{run.label} {', '.join(figures)}", flush=True)

        if algorithm is None:
            checkpoint = folder / "channels.safetensors"
            fit(model, self.data, recipe, teacher=teacher, seed=run.seed, on_epoch=show, checkpoint=checkpoint)
        else:
            fit_pruned(
                model,
                self.data,
                recipe,
                algorithm,
                run.pruning_epochs,
                folder,
                teacher=teacher,
                seed=run.seed,
                on_epoch=show,
            )
        self.recalibrate(model)
        save_file(model.state_dict(), folder / "model.safetensors")
        result = {"accuracy": evaluate(model, self.data.test).accuracy, "settings": self._settings(run)}
        with replacing(folder / "result.json") as temporary:
            temporary.write_text(json.dumps(result))

    def trained(self, run: Run) -> tuple[CifarResNet, float]:
        """The network of a finished run in evaluation mode, and its accuracy on the test pictures.

        Raises:
            ResultsMissing: if the run is not finished.
            AnotherRun: if what is there is of other settings.
        """
        accuracy = self._result(run)
        if accuracy is None:
            raise ResultsMissing(f"{run.label} is not trained; train it first with python -m benchmarks.cifar")
        model, _ = self.pruned(run)
        model.load_state_dict(load_file(self.folder / run.label / "model.safetensors"))
        return model.eval(), accuracy

    def _result(self, run: Run) -> float | None:
        """Accuracy on the test pictures; None if the run is not finished."""
        path = self.folder / run.label / "result.json"
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        expected = self._settings(run)
        if found["settings"] != expected:
            differing = ", ".join(key for key in expected if found["settings"].get(key) != expected[key])
            raise AnotherRun(f"{path} is of other settings ({differing}); move {path.parent} away, or restore them")
        return float(found["accuracy"])

    def _settings(self, run: Run) -> dict[str, Any]:
        """All that decides the result, as JSON gives it back."""
        settings: dict[str, Any] = json.loads(json.dumps({**asdict(run), "recipe": dict(self.recipe)}))
        return settings

    def recalibrate(self, model: nn.Module) -> None:
        """Batch norms measured anew under the training's augmentation."""
        recalibrate_as_trained(model, self.data, Recipe(**self.recipe), most=RECALIBRATION_BATCHES)


class Compiled(nn.Module):
    """A compiled network as a teacher: its forward pass takes a third of torch's time."""

    def __init__(self, network: CompiledModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits
