import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from supernet import OwnModel, harden, pretrain_replacements
from supernet.errors import ReconstructionFailed
from supernet.operators import make_operator
from supernet.replacement import make_replacement, replacement_convs
from tests.supernet.test_own_model import CONFIG, Residual, shaken
from training import Dataset, load_dataset


@pytest.fixture(scope="module")
def digits() -> Dataset:
    digits = load_dataset("digits", "unused", validation=0.25)
    return replace(digits, train=digits.train.subset(256))


def test_replacements_learn_what_their_layers_give(digits: Dataset) -> None:
    torch.manual_seed(0)
    own = OwnModel(shaken(Residual()), CONFIG | {"operators": ["conv1x1", "dw3x3_pw"]}, (1, 32, 32), 10)
    before, random = copy.deepcopy(own.network.state_dict()), torch.random.get_rng_state()
    errors = pretrain_replacements(own, digits, steps=25, batch_size=32, lr=0.01)
    assert set(errors["site"]) == {"inner", "outer", "down"}
    assert len(errors) == 6
    assert (errors["error_after"] < errors["error_before"]).all()
    assert errors["error_after"].median() < 0.5 * errors["error_before"].median()
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(before[name], tensor) for name, tensor in own.network.state_dict().items())


def test_an_error_that_is_not_finite_is_named(digits: Dataset) -> None:
    own = OwnModel(shaken(Residual()), CONFIG, (1, 32, 32), 10)
    with torch.no_grad():
        own.network.get_submodule("inner").get_parameter("weight").fill_(float("nan"))
    before = copy.deepcopy(own.replacements.state_dict())
    with pytest.raises(ReconstructionFailed, match="inner"):
        pretrain_replacements(own, digits, steps=2)
    assert all(torch.equal(before[name], tensor) for name, tensor in own.replacements.state_dict().items())


@pytest.mark.parametrize("text", ["dw3x3_pw", "pw_dw3x3_pw(1)", "pw_dw3x3_pw(2)"])
def test_a_separable_convolution_is_found_exactly(text: str) -> None:
    """One kernel for each channel, times a matrix: the first singular values are all there is, but for the noise."""
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(8, 16, 3, stride=2, padding=1)
    with torch.no_grad():
        taps, mixing = torch.randn(8, 3, 3, generator=generator), torch.randn(16, 8, generator=generator)
        conv.weight.copy_(mixing[:, :, None, None] * taps)
    convs = replacement_convs(conv, make_operator(text))
    assert not isinstance(convs, str)
    x = torch.randn(4, 8, 9, 9, generator=generator)
    with torch.no_grad():
        found, expected = make_replacement(conv, convs)(x), conv(x)
    assert found.shape == expected.shape
    assert (found - expected).square().mean() < 0.01 * expected.var()


@pytest.mark.parametrize(
    ("conv", "text", "reason"),
    [
        (nn.Conv2d(8, 8, 3, padding=1), "conv3x3", "cost as much"),
        (nn.Conv2d(8, 8, 1), "conv1x1", "cost as much"),
        (nn.Conv2d(8, 8, 3), "conv1x1", "padding"),
        (nn.Conv2d(8, 8, 3, padding=1, groups=2), "conv1x1", "plain"),
        (nn.Conv2d(8, 8, 3, padding=1), "skip", "none of the operators"),
    ],
)
def test_what_cannot_replace_says_why(conv: nn.Conv2d, text: str, reason: str) -> None:
    assert reason in str(replacement_convs(conv, make_operator(text)))


def test_soft_modules_become_hard_and_functions_are_counted() -> None:
    class Soft(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.Sigmoid())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.inner(x))

    model = Soft()
    found = harden(model, torch.zeros(1, 4))
    assert found.replaced == {"inner.1": "Hardswish", "inner.2": "Hardsigmoid"}
    assert found.left == 1
    assert isinstance(model.inner[1], nn.Hardswish)
    assert harden(model, torch.zeros(1, 4)).replaced == {}


def test_a_soft_module_becomes_hard_wherever_it_stands() -> None:
    act = nn.SiLU()
    model = nn.Sequential(nn.Linear(4, 4), act, nn.Sequential(nn.Linear(4, 4), act))
    found = harden(model, torch.zeros(1, 4))
    assert found.replaced == {"1": "Hardswish", "2.1": "Hardswish"}
    assert found.left == 0
    assert model[1] is model[2][1]
