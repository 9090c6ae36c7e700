"""Concatenations lie where their parts are computed."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compiler import compile_model, local_target

LANES = local_target().vector


class Dense(nn.Module):
    """A dense block: every layer reads all that came before. No kernel of 5x5 needs memory of its own."""

    def __init__(self, layers: int, growth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2 * growth, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d((2 + i) * growth, growth, 5, padding=2), nn.ReLU()) for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.stem(x)]
        for layer in self.layers:
            parts.append(layer(torch.cat(parts, 1)))
        return torch.cat(parts, 1)


class Branches(nn.Module):
    """Convolutions of any widths beside one another, some used elsewhere too."""

    def __init__(self, widths: list[int], padding: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, width, 1) for width in widths)
        self.last = nn.Conv2d(sum(widths), 4, 3, padding=padding)
        self.first = nn.Conv2d(widths[0], 4, 5, padding=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = [branch(x).relu() for branch in self.branches]
        return self.last(torch.cat(parts, 1)), self.first(parts[0]), torch.cat([parts[-1], parts[0]], 1)


def compare(model: nn.Module, x: Tensor) -> list[str]:
    """Assert that the compiled network equals torch; the operations that it consists of."""
    compiled = compile_model(model.eval(), x)
    with torch.no_grad():
        expected = model(x)
    given_, wanted = compiled(x), expected
    for one, other in zip(
        *((value if isinstance(value, tuple) else (value,)) for value in (given_, wanted)), strict=True
    ):
        assert float((one - other).abs().max() / other.abs().max()) <= 1e-5
    assert compiled.arena_bytes <= 1.3 * compiled.listing.live_bytes
    return list(compiled.kernels.op)


def test_a_dense_block_copies_nothing() -> None:
    torch.manual_seed(0)
    assert "concat" not in compare(Dense(4, LANES), torch.randn(2, 3, 17, 17))


def test_parts_that_do_not_fill_their_last_vector_are_copied() -> None:
    torch.manual_seed(0)
    operations = compare(Dense(2, LANES + 1), torch.randn(2, 3, 9, 9))
    assert operations.count("concat") > 0


@settings(max_examples=12, deadline=None)
@given(
    widths=st.lists(st.integers(1, 3 * LANES), min_size=2, max_size=4), aligned=st.booleans(), padding=st.integers(0, 2)
)
def test_branches_of_any_width(widths: list[int], aligned: bool, padding: int) -> None:
    torch.manual_seed(sum(widths))
    if aligned:
        widths = [-(-width // LANES) * LANES for width in widths]
    compare(Branches(widths, padding), torch.randn(2, 3, 6, 5))
