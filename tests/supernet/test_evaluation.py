import copy
import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from supernet import Candidate, SearchSpace, SuperNet, SupernetRecipe, extract, fast_evaluate, train_supernet
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
    return next(c for c in iter(lambda: small.sample(rng), None) if sum(x.sparsity.rate > 1 for x in c.choices) > 3)


def test_statistics_are_those_of_the_augmented_pictures(
    supernet: SuperNet, small: SearchSpace, digits: Dataset
) -> None:
    network = extract(supernet, small.largest())
    generator = torch.Generator().manual_seed(3)
    passes = batches(digits.train, 64, generator=generator, augment="shift")
    recalibrate_batch_norm(network, [next(passes)[0] for _ in range(4)])
    found = fast_evaluate(supernet, small.largest(), digits, recalibration_batches=4, augment="shift", seed=3)
    assert found == evaluate(network, digits.validation, EVALUATED)
    assert found != fast_evaluate(supernet, small.largest(), digits, recalibration_batches=4, seed=3)


def test_the_subset_is_fixed(supernet: SuperNet, small: SearchSpace, digits: Dataset) -> None:
    chosen = digits.validation.subset(100)
    assert len(chosen) == 100
    assert torch.equal(chosen.images, digits.validation.subset(100).images)
    some = replace(digits, validation=chosen)
    expected = fast_evaluate(supernet, small.largest(), some, recalibration_batches=2)
    assert fast_evaluate(supernet, small.largest(), digits, recalibration_batches=2, pictures=100) == expected
    assert digits.validation.subset(10**6) is digits.validation


def test_steps_train_a_copy_and_repeat(supernet: SuperNet, sparse: Candidate, digits: Dataset) -> None:
    before, random = copy.deepcopy(supernet.state_dict()), torch.random.get_rng_state()
    found = [fast_evaluate(supernet, sparse, digits, recalibration_batches=2, steps=k) for k in (0, 30, 30)]
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
    fast_evaluate(supernet, sparse, digits, recalibration_batches=1, steps=3)
    start = extract(supernet, sparse).state_dict()
    moved = 0
    for name, tensor in seen[0].state_dict().items():
        if name.endswith("weight") and tensor.ndim > 1:
            assert torch.equal(tensor != 0, start[name] != 0), name
            moved += not torch.equal(tensor, start[name])
    assert moved > 3


def test_nothing_is_kept_of_an_evaluation(supernet: SuperNet, small: SearchSpace, digits: Dataset) -> None:
    few = replace(digits, train=digits.train.subset(128), validation=digits.validation.subset(32))
    rng = np.random.default_rng(0)

    def tensors_after(count: int) -> int:
        for _ in range(count):
            fast_evaluate(supernet, small.sample(rng), few, recalibration_batches=1, steps=1)
        gc.collect()
        return sum(item.numel() for item in gc.get_objects() if isinstance(item, torch.Tensor))

    assert tensors_after(1) == tensors_after(10)


def test_a_foreign_candidate_is_refused(supernet: SuperNet, tiny: SearchSpace, digits: Dataset) -> None:
    with pytest.raises(InvalidCandidate):
        fast_evaluate(supernet, tiny.largest(), digits)
