from __future__ import annotations

import numpy as np
import pytest
import torch

from compiler import compile_model
from compiler.passes import WIDTH_KEEPING
from compiler.spec import CONVOLUTIONS
from search import kernel_specs
from search.model_lowering import TIMED_ALONE
from supernet import Candidate, OwnModel, extract
from supernet.errors import InvalidCandidate
from tests.supernet.test_own_model import CONFIG, Residual, shaken


@pytest.fixture(scope="module")
def own() -> OwnModel:
    torch.manual_seed(0)
    return OwnModel(shaken(Residual()), CONFIG, (1, 32, 32), 10).eval()


@pytest.mark.parametrize("index", range(6))
def test_specs_are_those_of_the_compiled_network(own: OwnModel, index: int) -> None:
    rng = np.random.default_rng(2)
    candidates = [own.space.largest(), own.space.smallest(), *(own.space.sample(rng) for _ in range(4))]
    network = extract(own, candidates[index]).eval()
    compiled = compile_model(network, torch.zeros(1, 1, 32, 32), passes=WIDTH_KEEPING)
    expected = [spec for spec in compiled.specs if spec.op in CONVOLUTIONS | TIMED_ALONE]
    assert kernel_specs(own.space, candidates[index]) == tuple(expected)


def test_a_candidate_of_another_space_is_refused(own: OwnModel) -> None:
    with pytest.raises(InvalidCandidate):
        kernel_specs(own.space, Candidate(()))
