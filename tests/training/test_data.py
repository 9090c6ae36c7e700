"""What counts as a split and a dataset."""

import pytest
import torch

from training import Dataset, Normalisation, Split
from training.errors import InvalidSplit


def split(count: int = 4, side: int = 8, classes: int = 3) -> Split:
    return Split(torch.zeros(count, 1, side, side), torch.arange(count) % classes)


def test_normalisation_is_the_formula_and_leaves_the_pixels() -> None:
    pixels = torch.randint(0, 256, (5, 2, 3, 3), dtype=torch.uint8)
    before = pixels.clone()
    images = Normalisation(mean=(0.5, 0.25), std=(0.1, 0.2))(pixels)
    expected = torch.stack([(pixels[:, 0] / 255 - 0.5) / 0.1, (pixels[:, 1] / 255 - 0.25) / 0.2], dim=1)
    torch.testing.assert_close(images, expected)
    assert torch.equal(pixels, before)
    floats = pixels.float()
    Normalisation(mean=(0.5, 0.25), std=(0.1, 0.2))(floats)
    assert torch.equal(floats, before.float())


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (torch.zeros(4, 8, 8), torch.zeros(4, dtype=torch.int64), r"\[4, 8, 8\]"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), "uint8"),
        (torch.zeros(4, 1, 8, 8), torch.zeros(4), "int64"),
        (torch.zeros(4, 1, 8, 8), torch.zeros(3, dtype=torch.int64), "4 images and 3 labels"),
        (torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), "at least one"),
    ],
)
def test_what_is_no_split_is_refused(images: torch.Tensor, labels: torch.Tensor, said: str) -> None:
    with pytest.raises(InvalidSplit, match=said):
        Split(images, labels)


def test_a_dataset_knows_its_input_shape() -> None:
    assert Dataset("d", split(), split(), split(), classes=3).input_shape == (1, 8, 8)


def test_a_dataset_with_foreign_labels_or_shapes_is_refused() -> None:
    with pytest.raises(InvalidSplit, match=r"test labels reach from 0 to 2, not 0\.\.1"):
        Dataset("d", split(classes=2), split(classes=2), split(classes=3), classes=2)
    with pytest.raises(InvalidSplit, match="validation pictures"):
        Dataset("d", split(), split(side=9), split(), classes=3)
