from __future__ import annotations

import numpy as np
import pytest
import torch

from compiler import compile_model
from compiler.passes import WIDTH_KEEPING
from search import kernel_specs
from supernet import Candidate, SearchSpace, SuperNet, extract
from supernet.errors import InvalidCandidate


@pytest.fixture(scope="module")
def supernet(tiny: SearchSpace) -> SuperNet:
    return SuperNet(tiny, seed=0).eval()


def _candidates(space: SearchSpace) -> list[Candidate]:
    rng = np.random.default_rng(0)
    return [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(4))]


@pytest.mark.parametrize("index", range(6))
def test_specs_are_those_of_the_compiled_network(supernet: SuperNet, index: int) -> None:
    candidate = _candidates(supernet.space)[index]
    model, image = extract(supernet, candidate).eval(), torch.zeros(1, 1, 32, 32)
    compiled = compile_model(model, image, passes=WIDTH_KEEPING)
    assert kernel_specs(supernet.space, candidate) == compiled.specs


def test_work_is_that_of_the_layers(tiny: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    for candidate in (tiny.largest(), *(tiny.sample(rng) for _ in range(20))):
        work = sum(spec.macs_kept for spec in kernel_specs(tiny, candidate))
        assert work == pytest.approx(sum(layer.macs for layer in tiny.layers(candidate)), rel=1e-6)


def test_candidate_of_another_space_is_refused(tiny: SearchSpace, toy: SearchSpace) -> None:
    with pytest.raises(InvalidCandidate):
        kernel_specs(tiny, toy.largest())
