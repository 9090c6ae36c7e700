"""The benchmark of pruning's costs covers what there is."""

import pytest
import torch

from benchmarks.measure import QUICK
from benchmarks.pruning import SPARSITIES, Step, measure_projections
from pruning import Sparsity, algorithm_names, scheme_names


def test_every_scheme_is_measured() -> None:
    assert {Sparsity.parse(text).scheme.name for text in SPARSITIES} == set(scheme_names()) - {"dense"}


def test_projections_keep_what_they_are_called() -> None:
    table = measure_projections(("filter@4", "block_row(16x64)@4"), QUICK)
    assert list(table["shape"]) == ["512x512x3x3", "512x4608"]
    assert (table["measured_ms"] > 0).all()


@pytest.mark.parametrize("name", algorithm_names())
def test_steps_train_and_hold_their_masks(name: str) -> None:
    step = Step(name)
    step.images, step.labels = step.images[:8], step.labels[:8]
    before = [weight.detach().clone() for weight in step.model.parameters()]
    step()
    assert any(not torch.equal(weight, old) for weight, old in zip(step.model.parameters(), before, strict=True))
    step.finish()
    step()
    assert step.algorithm is not None
    for layer, mask in step.algorithm.masks.items():
        assert not step.model.get_submodule(layer).weight[~mask].any()
        assert 0 < mask.float().mean() < 0.3
