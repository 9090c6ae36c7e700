"""Augmentations move and mirror, and do nothing else."""

import pytest
import torch
import torch.nn.functional as F
from torch import Generator

from training.augmentation import AUGMENTATIONS, crop_flip, make_augmentation, shift, shift_flip
from training.data import Normalisation
from training.errors import UnknownAugmentation

IMAGES = torch.rand(200, 3, 16, 16) + 1


def crops(image: torch.Tensor) -> list[torch.Tensor]:
    padded = F.pad(image, (2, 2, 2, 2))
    return [padded[:, top : top + 16, left : left + 16] for top in range(5) for left in range(5)]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_shift_gives_one_of_the_crops_of_the_padded_picture_and_reaches_all() -> None:
    taken = set()
    for image, moved in zip(IMAGES, shift(IMAGES, seeded()), strict=True):
        matches = [index for index, crop in enumerate(crops(image)) if torch.equal(crop, moved)]
        assert len(matches) == 1
        taken.add(matches[0])
    assert taken == set(range(25))


def test_shift_flip_mirrors_about_half() -> None:
    mirrored = 0
    for image, moved in zip(IMAGES, shift_flip(IMAGES, seeded()), strict=True):
        straight = any(torch.equal(crop, moved) for crop in crops(image))
        flipped = any(torch.equal(crop.flip(-1), moved) for crop in crops(image))
        assert straight != flipped
        mirrored += flipped
    assert 60 < mirrored < 140


def test_crop_flip_brings_in_what_was_black_before_normalisation() -> None:
    pixels = torch.randint(0, 256, (40, 3, 16, 16), generator=seeded()).float()
    pixels[0, :, 0, 0] = 0
    normalise = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.1))
    cropped_first = normalise(shift_flip(pixels, seeded(3)))
    torch.testing.assert_close(crop_flip(normalise(pixels), seeded(3)), cropped_first, atol=1e-5, rtol=0)


def test_pictures_need_not_be_square() -> None:
    images = torch.rand(4, 1, 8, 24)
    assert shift_flip(images, seeded()).shape == images.shape


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_generator_decides_and_the_input_stays(name: str) -> None:
    before = IMAGES.clone()
    augment = make_augmentation(name)
    assert torch.equal(augment(IMAGES, seeded(1)), augment(IMAGES, seeded(1)))
    assert torch.equal(IMAGES, before)
    assert torch.equal(augment(IMAGES, seeded(1)), augment(IMAGES, seeded(2))) == (name == "none")


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(UnknownAugmentation, match=r"'mixup'.*crop_flip, none, shift, shift_flip"):
        make_augmentation("mixup")
