"""Channels that nobody needs are not computed."""

import pytest
import torch
from torch import Tensor, nn

from compiler import compile_model
from compiler.passes import WIDTH_KEEPING


class Residual(nn.Module):
    """Two blocks on one trunk, a depthwise convolution and a pooled classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.inner = nn.Conv2d(24, 40, 3, padding=1)
        self.outer = nn.Conv2d(40, 24, 3, padding=1)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.last = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.outer(nn.functional.silu(self.inner(x)))
        return self.last(nn.functional.max_pool2d(self.depthwise(x), 2).mean((2, 3)))


def widths(model: nn.Module, x: Tensor) -> dict[str, int]:
    """Filters of each convolution that is executed; the result is that of torch."""
    compiled = compile_model(model, x)
    with torch.no_grad():
        expected = model(x)
    assert float((compiled(x) - expected).abs().max() / expected.abs().max()) <= 1e-5
    table = compiled.kernels
    return dict(zip(table.layer, table.out_channels, strict=True))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Residual().eval()


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_filters_that_are_zero_go_with_what_reads_them(model: nn.Module) -> None:
    with torch.no_grad():
        model.inner.weight[5:12] = 0
        model.inner.bias[5:12] = 0
    assert widths(model, X)["inner"] == 33


def test_a_filter_with_a_bias_stays(model: nn.Module) -> None:
    with torch.no_grad():
        model.inner.weight[5:12] = 0
    assert widths(model, X)["inner"] == 40


def test_channels_that_nobody_reads_go_with_what_computes_them(model: nn.Module) -> None:
    with torch.no_grad():
        model.outer.weight[:, :10] = 0
    assert widths(model, X)["inner"] == 30


def test_a_trunk_is_narrowed_only_where_all_of_it_is_dead(model: nn.Module) -> None:
    with torch.no_grad():
        for layer in (model.stem, model.outer):
            layer.weight[[1, 7, 8]] = 0
            layer.bias[[1, 7, 8]] = 0
        model.stem.weight[9] = 0
        model.stem.bias[9] = 0
    assert widths(model, X)["stem"] == 24
    with torch.no_grad():
        model.depthwise.bias[[1, 7, 8, 9]] = 0
    assert {name: count for name, count in widths(model, X).items() if name in ("stem", "outer", "depthwise")} == {
        "stem": 21,
        "outer": 21,
        "depthwise": 21,
    }


def test_a_whole_layer_of_zeros_leaves_one_channel(model: nn.Module) -> None:
    with torch.no_grad():
        model.inner.weight.zero_()
        model.inner.bias.zero_()
    assert widths(model, X)["inner"] == 1


def test_a_depthwise_convolution_is_narrowed_to_one_channel() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 5, 1)]
    with torch.no_grad():
        layers[2].weight[:, [0, 1, 3, 4, 5, 6, 7]] = 0
    found = widths(nn.Sequential(*layers).eval(), X)
    assert (found["0"], found["1"], found["2"]) == (1, 1, 5)


def test_widths_can_be_kept(model: nn.Module) -> None:
    with torch.no_grad():
        model.outer.weight[:, :10] = 0
    table = compile_model(model, X, passes=WIDTH_KEEPING).kernels
    assert table[table.layer == "inner"].out_channels.item() == 40


def test_a_depthwise_convolution_may_come_down_to_one_channel() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 5, 1)
    ).eval()
    with torch.no_grad():
        model[4].weight[:, [0, 1, 2, 4, 5, 6, 7]] = 0
    assert [widths(model, X)[name] for name in "024"] == [1, 1, 5]


def test_a_maximum_of_nothing_is_not_zero() -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 24, 1, bias=False), nn.Conv2d(24, 5, 1)
    with torch.no_grad():
        first.weight[:8] = 0
    whole = nn.Sequential(first, nn.MaxPool2d((2, 1), 1, (1, 0), dilation=(9, 1)), nn.Tanh(), last)
    assert widths(whole.eval(), X)["0"] == 24
