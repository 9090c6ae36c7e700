"""Networks that cannot learn a dataset are told apart from those that can."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from training import require_classifier
from training.errors import DataMismatch

SHAPE = (1, 32, 32)


class Net(nn.Module):
    """Logits as they come out of `answer`, which sees whether the network is being trained."""

    def __init__(self, answer: Callable[[Tensor, bool], object]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 32), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, 10)
        )
        self.answer = answer

    def forward(self, x: Tensor) -> object:
        return self.answer(self.body(x), self.training)


def test_a_classifier_passes_and_is_left_as_it_was() -> None:
    model = Net(lambda logits, training: logits).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    require_classifier(model, SHAPE, 10)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda logits, training: {"logits": logits}, "a dict in evaluation mode"),
        (lambda logits, training: (logits, logits) if training else logits, "a tuple in training mode"),
        (lambda logits, training: logits[..., None], r"\[1, 10, 1\] .* \[1, 10\] is needed"),
        (lambda logits, training: logits.mean(0) if training else logits, r"\[10\] for 2 picture"),
        (lambda logits, training: logits @ logits, "in evaluation mode: .*cannot be multiplied"),
    ],
)
def test_what_is_no_classifier_is_named_with_the_mode(answer: Callable[[Tensor, bool], object], said: str) -> None:
    with pytest.raises(DataMismatch, match=said):
        require_classifier(Net(answer), SHAPE, 10)


def test_pictures_and_classes_have_to_be_those_of_the_network() -> None:
    model = Net(lambda logits, training: logits)
    with pytest.raises(DataMismatch, match=r"\[3, 32, 32\]"):
        require_classifier(model, (3, 32, 32), 10)
    with pytest.raises(DataMismatch, match="100 classes"):
        require_classifier(model, SHAPE, 100)
