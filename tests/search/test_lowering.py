from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from compiler import compile_model, find_target, schedule
from compiler.passes import WIDTH_KEEPING
from search import kernel_specs, timed_specs
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


@pytest.mark.parametrize("device", ["x86_avx2", "x86_avx512"])
def test_zeros_that_are_computed_take_as_long_as_a_dense_kernel(tiny: SearchSpace, device: str) -> None:
    rng, target = np.random.default_rng(0), find_target(device)
    computed = skipped = 0
    for candidate in (tiny.sample(rng) for _ in range(40)):
        pairs = zip(kernel_specs(tiny, candidate, device), timed_specs(tiny, candidate, device), strict=True)
        for spec, timed in (pair for pair in pairs if not pair[0].sparsity.dense):
            if timed == spec:
                skipped += 1
                assert schedule(spec, target).form == "sparse"
            else:
                computed += 1
                assert timed == replace(spec, sparsity=timed.sparsity)
                assert timed.sparsity.dense
                assert replace(schedule(spec, target), why="") == replace(schedule(timed, target), why="")
    assert computed > 0
    assert skipped > 5


def test_candidate_of_another_space_is_refused(tiny: SearchSpace, toy: SearchSpace) -> None:
    with pytest.raises(InvalidCandidate):
        kernel_specs(tiny, toy.largest())
