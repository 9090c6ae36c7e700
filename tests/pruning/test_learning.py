"""On a small real task every algorithm is better than removing the smallest groups at once."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from pruning import Algorithm, Sparsity, algorithm_names, make_algorithm
from training import recalibrate_batch_norm

FINE = {
    "3": Sparsity("filter", 2),
    "6": Sparsity("block_punched(8x1)", 10),
    "10": Sparsity("unstructured", 10),
}
FILTERS = {"0": Sparsity("filter", 4), "3": Sparsity("filter", 4), "6": Sparsity("filter", 4)}
LEARNING: dict[str, dict[str, Any]] = {
    "admm": {"rho": [0.03, 0.3, 3.0], "epochs": 2, "period": 1},
    "gradual": {"begin": 1, "epochs": 4},
    "reweighted": {"strength": 4e-4, "epochs": 2, "rounds": 3},
    "smart": {"epochs": 6, "lr": 0.03},
}
"""Algorithms that move the weights before they prune; the others only rank them."""
EPOCHS = 6
SEEDS = range(2)


class Task:
    """Digits of 8x8, and networks that were trained on them."""

    def __init__(self) -> None:
        data = load_digits()
        images, labels = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 8 - 1, torch.tensor(data.target)
        self.train, self.validation = (images[:1200], labels[:1200]), (images[1200:], labels[1200:])
        self.trained = [self._trained(seed) for seed in SEEDS]

    def epochs(self, model: nn.Module, numbers: range, lr: float, algorithm: Algorithm | None = None) -> None:
        model.train()
        for number in numbers:
            optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
            for batch in torch.randperm(1200, generator=torch.Generator().manual_seed(number)).split(100):
                loss = F.cross_entropy(model(self.train[0][batch]), self.train[1][batch])
                optimizer.zero_grad()
                (loss if algorithm is None else loss + algorithm.penalty()).backward()
                optimizer.step()
                if algorithm is not None:
                    algorithm.after_step()
            if algorithm is not None:
                algorithm.after_epoch()

    def loss(self, model: nn.Module) -> float:
        recalibrate_batch_norm(model, self.train[0].split(200))
        images, labels = self.validation
        with torch.no_grad():
            return float(F.cross_entropy(model.eval()(images), labels))

    def pruned(self, name: str, seed: int, plan: Mapping[str, Sparsity], tuned: int) -> float:
        """Validation loss after pruning with an algorithm, and so many epochs of training under its masks."""
        model = copy.deepcopy(self.trained[seed])
        algorithm = make_algorithm(name, model, plan, self.train[0][:1], **LEARNING.get(name, {}))
        if name in LEARNING:
            self.epochs(model, range(EPOCHS), 0.02, algorithm)
        elif algorithm.needs_training:
            self.epochs(model, range(1), 1e-6, algorithm)
        algorithm.finish()
        self.epochs(model, range(EPOCHS, EPOCHS + tuned), 0.02, algorithm)
        for layer, mask in algorithm.masks.items():
            assert not bool(model.get_submodule(layer).weight[~mask].any())
        return self.loss(model)

    def _trained(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(512, 10)),
        )
        self.epochs(model, range(8), 0.05)
        return model


@pytest.fixture(scope="module")
def task() -> Task:
    return Task()


@pytest.fixture(scope="module")
def at_once(task: Task) -> dict[bool, float]:
    """Mean loss of one-shot magnitude: without further training, and after two epochs of it, for filters."""
    return {
        True: sum(task.pruned("magnitude", seed, FINE, 0) for seed in SEEDS) / len(SEEDS),
        False: sum(task.pruned("magnitude", seed, FILTERS, 2) for seed in SEEDS) / len(SEEDS),
    }


@pytest.mark.parametrize("name", sorted(set(algorithm_names()) - {"magnitude"}))
def test_better_than_magnitude_at_once(name: str, task: Task, at_once: dict[bool, float]) -> None:
    learning = name in LEARNING
    plan, tuned = (FINE, 0) if learning else (FILTERS, 2)
    mean = sum(task.pruned(name, seed, plan, tuned) for seed in SEEDS) / len(SEEDS)
    assert mean < at_once[learning]
