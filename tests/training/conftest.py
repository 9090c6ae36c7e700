"""Real digits, and a network small enough to train in seconds."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from training import Dataset, Split, load_dataset


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def few_digits(digits: Dataset) -> Dataset:
    """An eighth of the pictures at half the size."""

    def part(split: Split) -> Split:
        return Split(split.images[::8, :, ::2, ::2].contiguous(), split.labels[::8])

    return Dataset("few digits", part(digits.train), part(digits.validation), part(digits.test), digits.classes)


@pytest.fixture
def make_cnn() -> Callable[..., nn.Sequential]:
    """Convolution, batch norm, dropout, linear: everything that carries a state or draws random numbers."""

    def make(seed: int = 0, width: int = 16, dropout: float = 0.0) -> nn.Sequential:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(2 * width),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Dropout(dropout),
                nn.Linear(8 * width, 10),
            )

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """For networks this small a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
