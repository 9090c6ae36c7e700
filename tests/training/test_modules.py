"""What loops do to modules for a while, and undo."""

import torch
from torch import nn

from training import Dataset, Recipe, Split, fit
from training.modules import channels_last, computes_channels_last


def test_convolutions_lie_channels_last_within_and_as_before_afterwards() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    image = torch.randn(2, 3, 4, 4)
    parameters, strides = list(model.parameters()), [parameter.stride() for parameter in model.parameters()]
    values = [parameter.detach().clone() for parameter in parameters]
    expected = model.eval()(image)
    with channels_last(model):
        assert parameters[0].is_contiguous(memory_format=torch.channels_last)
        assert model[0](image).is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(model(image), expected)
    assert all(now is before for now, before in zip(model.parameters(), parameters, strict=True))
    assert [parameter.stride() for parameter in parameters] == strides
    assert all(torch.equal(now, before) for now, before in zip(parameters, values, strict=True))


def test_what_was_learned_within_stays() -> None:
    model = nn.Conv2d(3, 4, 3)
    with channels_last(model), torch.no_grad():
        model.weight += 1
        learned = model.weight.clone()
    assert torch.equal(model.weight, learned)


def test_weights_in_shared_memory_stay_shared() -> None:
    wide, narrow, twin = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(3, 8, 3)
    narrow.weight = nn.Parameter(wide.weight.data[:4])
    twin.weight = nn.Parameter(wide.weight.data)
    with channels_last(nn.ModuleList([wide, narrow, twin])), torch.no_grad():
        wide.weight.fill_(7)
    assert (narrow.weight == 7).all()
    assert (twin.weight == 7).all()


def test_weights_that_lay_channels_last_before_still_do() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    with channels_last(model):
        pass
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


class Viewing(nn.Module):
    """Flattens by a view, in training only if told so."""

    def __init__(self, *, always: bool) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.always = always

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.bn(self.conv(images))
        return found.view(len(found), -1) if self.always or self.training else found.flatten(1)


def test_networks_that_view_their_activations_are_told_apart_and_left_alone() -> None:
    images = torch.randn(2, 3, 6, 6)
    reshaping = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten()).eval()
    for model, expected in ((Viewing(always=True), False), (Viewing(always=False), False), (reshaping, True)):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        modes, random = [module.training for module in model.modules()], torch.get_rng_state()
        assert computes_channels_last(model, images) is expected
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert [module.training for module in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), random)


def test_networks_that_view_their_activations_are_trained() -> None:
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randn(16, 3, 6, 6, generator=generator), torch.arange(16) % 3)
    model = Viewing(always=True)
    history = fit(model, Dataset("noise", split, split, split, 64), Recipe(epochs=1, batch_size=8, warmup_epochs=0))
    assert len(history) == 1
