"""The embedded digits, as scikit-learn has them."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from training import Dataset, Split, load_dataset


def pictures(split: Split) -> set[bytes]:
    return {picture.numpy().tobytes() for picture in split.images}


def test_shapes_sizes_and_normalisation(digits: Dataset) -> None:
    assert digits.input_shape == (1, 32, 32)
    assert digits.classes == 10
    sizes = [len(split) for split in (digits.train, digits.validation, digits.test)]
    assert sum(sizes) == 1797
    assert all(abs(size - expected) < 5 for size, expected in zip(sizes, (1077, 360, 360), strict=True))
    assert abs(digits.train.images.mean()) < 0.02
    assert abs(digits.train.images.std() - 1) < 0.02
    for split in (digits.train, digits.validation, digits.test):
        assert split.labels.bincount().min() > 0.95 * len(split) / 10


def test_no_picture_is_in_two_splits(digits: Dataset) -> None:
    train, validation, test = (pictures(split) for split in (digits.train, digits.validation, digits.test))
    assert not train & validation
    assert not (train | validation) & test


def test_the_seed_moves_validation_but_never_test(digits: Dataset) -> None:
    other = load_dataset("digits", seed=1)
    assert torch.equal(other.test.images, digits.test.images)
    assert pictures(other.validation) != pictures(digits.validation)
    again = load_dataset("digits", seed=1)
    assert torch.equal(again.train.images, other.train.images)


def test_pictures_keep_their_labels(digits: Dataset) -> None:
    """Averaged back to 8x8 and matched against the originals."""
    bunch = load_digits()
    originals = torch.from_numpy(bunch.images).float().flatten(1) / 16
    assert digits.normalisation is not None
    pixels = digits.test.images * digits.normalisation.std[0] + digits.normalisation.mean[0]
    small = F.interpolate(pixels, size=(8, 8), mode="area").flatten(1)
    nearest = torch.cdist(small, originals).argmin(dim=1)
    assert (torch.from_numpy(bunch.target)[nearest] == digits.test.labels).float().mean() > 0.98
