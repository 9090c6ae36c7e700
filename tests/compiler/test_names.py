"""Layers, parameters and buffers may be called what torch or the compiler calls what it makes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compiler import compile_model

NAMES = ["add", "batch_norm", "conv2d", "linear", "linear_1", "mul", "permute", "relu", "t", "x"]
"""What `torch.export` calls operators and inputs."""
PARAMETERS = [*NAMES, "gru", "scale", "sum", "w"]
"""Functions of kernels, too."""


class Dense(nn.Module):
    """Linear layers of one size behind one another, of which only the last has a name of its own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.add_module(name, nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x * 2).relu() + 1
        return self.get_submodule(self.name)(x)


class Images(nn.Module):
    """A convolution of any name behind a batch norm and a shift."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.stem = nn.Conv2d(5, 5, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(5), nn.BatchNorm2d(5)])
        for norm in self.norms:
            nn.init.uniform_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 1, 3)
        self.shift = nn.Parameter(torch.randn(5, 1, 1))
        self.add_module(name, nn.Conv2d(5, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[1](self.stem(self.norms[0](x).sin()).relu()) + self.shift
        return self.get_submodule(self.name)(x.relu() * 3)


class Computed(nn.Module):
    """A parameter of any name beside weights that are computed from others, and kernels with functions and weights."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.randn(8, 8))
        self.layer = nn.GRU(8, 8, batch_first=True)
        self.register_parameter(name, nn.Parameter(torch.randn(8, 8)))

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, getattr(self, self.name))
        weights = self.weight.t(), self.weight.relu(), self.weight * 2, self.weight + 1, self.weight.T.permute(1, 0)
        for weight in weights:
            x = F.linear(x, weight).tanh()
        x = self.layer(x * x.relu())[0]
        return F.linear(x, getattr(self, self.name)).sum(1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("network", "shape"), [(Dense, (8,)), (Dense, (4, 8)), (Images, (5, 6, 6))])
def test_layers_of_any_name_have_their_own_weights(network: type[nn.Module], shape: tuple[int, ...], name: str) -> None:
    _agrees(network(name), torch.randn(2, *shape))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_any_name_are_not_mistaken_for_computed_weights(name: str) -> None:
    _agrees(Computed(name), torch.randn(2, 4, 8))


class Remembered(nn.Module):
    """Changes its input, and has a buffer that is called like it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("x", torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2) + self.x


def test_a_buffer_is_not_taken_for_the_changed_input_of_its_name() -> None:
    model, x = Remembered(), torch.randn(2, 3)
    assert torch.allclose(compile_model(model, x)(x), model(x.clone()), rtol=1e-5, atol=1e-6)


def _agrees(model: nn.Module, x: Tensor) -> None:
    model.eval()
    with torch.no_grad():
        expected = model(x)
    error = (compile_model(model, x)(x) - expected).abs().max() / expected.abs().max()
    assert error <= 1e-4, f"largest error {error:.1e} of the largest output"
