"""The driver: when halos are made zero."""

import re
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from compiler import compile_model


class Dense(nn.Module):
    """Two layers whose inputs are what came before, put together: `grown` is read alone and as a part of more."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(16, 16, 1)
        self.grown = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Conv2d(32, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.cat([x, self.grown(x)], 1)
        found: Tensor = self.last(x)
        return found


def _statements(model: nn.Module, threads: int) -> list[str]:
    """The driver's calls in order, a halo and a layer each; layers go by their names."""
    source = compile_model(model, torch.zeros(1, 16, 24, 24), threads=threads).listing.source
    text = source[source.rindex("npas_run" if threads == 1 else "npas_work(const") :]
    found = re.findall(r"^ +(?:(npas_halo)\w*\(|.*/\* (\S+) \*/)", text, flags=re.MULTILINE)
    return [halo or layer for halo, layer in found]


def test_a_halo_is_cleared_once_right_before_the_first_layer_that_reads_it() -> None:
    model = nn.Sequential(nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 8, 1))
    statements = _statements(model, threads=1)
    assert statements.count("npas_halo") == 1
    assert statements[statements.index("npas_halo") + 1] == "1"


def test_what_lies_in_a_concatenation_is_cleared_once() -> None:
    statements = _statements(Dense(), threads=1)
    assert statements.count("npas_halo") == 2
    assert [after for before, after in pairwise(statements) if before == "npas_halo"] == ["grown", "last"]


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_of_an_earlier_run_stays_in_a_halo(threads: int) -> None:
    torch.manual_seed(0)
    model = Dense().eval()
    compiled = compile_model(model, torch.zeros(1, 16, 24, 24), threads=threads)
    for scale in (1e6, 1.0):
        image = scale * torch.randn(1, 16, 24, 24)
        expected = model(image).detach()
        assert (torch.as_tensor(compiled(image.numpy())) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_where_threads_share_the_work_the_writer_clears() -> None:
    model = nn.Sequential(nn.Conv2d(16, 256, 1), nn.Conv2d(256, 256, 3, padding=1))
    statements = _statements(model, threads=2)
    assert statements[statements.index("npas_halo") + 1] == "0"
