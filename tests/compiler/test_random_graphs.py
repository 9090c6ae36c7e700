"""Random networks compile and compute what torch computes, or are refused by name; `NPAS_GRAPHS` says how many."""

import os
from dataclasses import replace

import pytest
import torch

from compiler import CompilerError, compile_model, local_target
from tests.compiler.random_graphs import random_graph

COUNT = int(os.environ.get("NPAS_GRAPHS", "60"))
TOLERANCE = 1e-4
SMALL = 0.01  # a difference of equal tensors is rounding alone
# what a kernel computes does not depend on how much the C compiler optimises, but the time to compile it does
TARGET = replace(local_target(), flags=(*local_target().flags, "-O0"))


@pytest.mark.parametrize("seed", range(COUNT))
def test_random_graphs(seed: int) -> None:
    program, shape = random_graph(seed)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    try:
        compiled = compile_model(program, x, device=TARGET)
    except CompilerError as error:
        pytest.skip(f"{type(error).__name__}: {error}")
    compiled.program._arena[:] = 255
    for batch in (x, x[:1]):
        with torch.no_grad():
            expected = program(batch)
        given = compiled(batch)
        for one, other in zip([given] if len(expected) == 1 else given, expected, strict=True):
            assert one.shape == other.shape
            scale = max(SMALL, float(other.abs().max()))
            assert float((one - other).abs().max()) <= TOLERANCE * scale, program
