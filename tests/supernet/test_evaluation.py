import copy
import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from supernet import (
    Candidate,
    EvaluationRecipe,
    SearchSpace,
    SuperNet,
    SupernetRecipe,
    extract,
    fast_evaluate,
    train_supernet,
)
from supernet.errors import InvalidCandidate
from supernet.evaluation import EVALUATED
from training import Dataset, Split, batches, evaluate, load_dataset, recalibrate_batch_norm


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", "unused", validation=0.25)


@pytest.fixture(scope="module")
def supernet(small: SearchSpace, digits: Dataset) -> SuperNet:
    supernet = SuperNet(small)
    train_supernet(supernet, digits, SupernetRecipe(epochs=1, batch_size=64, dense_share=0, mild_share=0))
    return supernet.eval()


@pytest.fixture(scope="module")
def sparse(small: SearchSpace) -> Candidate:
    """Half of the weights, masks and removed filters."""
    rng = np.random.default_rng(0)
    drawn = iter(lambda: small.sample(rng), None)
    return next(
        c for c in drawn if {"filter", "channel", "unstructured"} <= {x.sparsity.scheme.name for x in c.choices}
    )


def test_statistics_are_those_of_the_augmented_pictures(
    supernet: SuperNet, small: SearchSpace, digits: Dataset
) -> None:
    network = extract(supernet, small.largest())
    generator = torch.Generator().manual_seed(3)
    passes = batches(digits.train, 64, generator=generator, augment="shift")
    recalibrate_batch_norm(network, [next(passes)[0] for _ in range(4)])
    shifted, clean = (EvaluationRecipe(recalibration_batches=4, augment=augment) for augment in ("shift", "none"))
    found = fast_evaluate(supernet, small.largest(), digits, shifted, seed=3)
    expected = evaluate(network, digits.validation, EVALUATED)
    assert found == fast_evaluate(supernet, small.largest(), digits, shifted, seed=3)
    assert found.accuracy == expected.accuracy
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.loss != pytest.approx(fast_evaluate(supernet, small.largest(), digits, clean, seed=3).loss, rel=1e-3)


def test_the_subset_is_fixed(supernet: SuperNet, small: SearchSpace, digits: Dataset) -> None:
    chosen = digits.validation.subset(100)
    assert len(chosen) == 100
    assert torch.equal(chosen.images, digits.validation.subset(100).images)
    some = replace(digits, validation=chosen)
    recipe = EvaluationRecipe(recalibration_batches=2)
    expected = fast_evaluate(supernet, small.largest(), some, recipe)
    assert fast_evaluate(supernet, small.largest(), digits, replace(recipe, pictures=100)) == expected
    assert digits.validation.subset(10**6) is digits.validation


def test_steps_train_a_copy_and_repeat(supernet: SuperNet, sparse: Candidate, digits: Dataset) -> None:
    before, random = copy.deepcopy(supernet.state_dict()), torch.random.get_rng_state()
    recipes = [EvaluationRecipe(recalibration_batches=2, steps=steps) for steps in (0, 30, 30)]
    found = [fast_evaluate(supernet, sparse, digits, recipe) for recipe in recipes]
    assert found[1] == found[2]
    assert found[1].loss < found[0].loss
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


def test_masks_hold_while_it_trains(
    supernet: SuperNet, sparse: Candidate, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[nn.Module] = []

    def watched(network: nn.Module, split: Split, batch_size: int) -> object:
        seen.append(network)
        return evaluate(network, split, batch_size)

    monkeypatch.setattr("supernet.evaluation.evaluate", watched)
    fast_evaluate(supernet, sparse, digits, EvaluationRecipe(recalibration_batches=1, steps=3))
    start = extract(supernet, sparse).state_dict()
    moved, masked = 0, 0
    for name, tensor in seen[0].state_dict().items():
        if name.endswith("weight") and tensor.ndim > 1:
            assert torch.equal(tensor != 0, start[name] != 0), name
            moved += not torch.equal(tensor, start[name])
            masked += not bool(start[name].all())
    assert moved > 3
    assert masked


def test_nothing_is_kept_of_an_evaluation(
    supernet: SuperNet, small: SearchSpace, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(digits, train=digits.train.subset(128), validation=digits.validation.subset(32))
    rng, recipe = np.random.default_rng(0), EvaluationRecipe(recalibration_batches=1, steps=1)
    seen: list[weakref.ref[object]] = []

    def watched(shared: SuperNet, candidate: Candidate) -> nn.Module:
        network = extract(shared, candidate)
        seen.extend(weakref.ref(part) for part in (network, *network.parameters(), *network.buffers()))
        return network

    monkeypatch.setattr("supernet.evaluation.extract", watched)
    for _ in range(3):
        fast_evaluate(supernet, small.sample(rng), few, recipe)
    gc.collect()
    assert len(seen) > 30
    assert not [reference for reference in seen if reference() is not None]


def test_a_foreign_candidate_is_refused(supernet: SuperNet, tiny: SearchSpace, digits: Dataset) -> None:
    with pytest.raises(InvalidCandidate):
        fast_evaluate(supernet, tiny.largest(), digits)


class Flattening(nn.Module):
    """A network of a user's, which takes it for granted how tensors lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.classifier = nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4), nn.LazyLinear(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.conv(x))
        return self.classifier(x.view(len(x), -1))  # type: ignore[no-any-return]

    def extract(self, candidate: Candidate, *, masked: bool = True) -> nn.Module:
        return copy.deepcopy(self)


def test_a_network_of_another_kind_is_evaluated_as_it_is(small: SearchSpace, digits: Dataset) -> None:
    network = Flattening()
    network(digits.train.images[:2])
    found = fast_evaluate(network, small.largest(), digits, EvaluationRecipe(recalibration_batches=2, steps=2))
    assert found == fast_evaluate(network, small.largest(), digits, EvaluationRecipe(recalibration_batches=2, steps=2))
    plain = fast_evaluate(network, small.largest(), digits, EvaluationRecipe(recalibration_batches=2))
    passes = batches(digits.train, 64, generator=torch.Generator().manual_seed(0), augment="none")
    recalibrate_batch_norm(network, [next(passes)[0] for _ in range(2)])
    assert plain == evaluate(network, digits.validation, EVALUATED)
