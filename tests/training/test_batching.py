"""Batches cover a split exactly once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from training import Split, batches
from training.batching import shuffled_batches
from training.errors import InvalidBatches, UnknownAugmentation


def numbered(count: int) -> Split:
    """Picture i shows i everywhere and has label i."""
    labels = torch.arange(count)
    return Split(labels.float().view(-1, 1, 1, 1).expand(count, 1, 8, 8).contiguous(), labels)


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.one_of(st.none(), st.integers(0, 2**32)))
def test_every_picture_comes_once_with_its_label(count: int, batch_size: int, seed: int | None) -> None:
    generator = None if seed is None else Generator().manual_seed(seed)
    seen = list(batches(numbered(count), batch_size, generator=generator))
    labels = torch.cat([labels for _, labels in seen])
    assert labels.sort().values.tolist() == list(range(count))
    assert all(torch.equal(images[:, 0, 0, 0], labels.float()) for images, labels in seen)
    assert all(len(labels) == batch_size for _, labels in seen[:-1])
    if seed is None:
        assert 1 <= len(seen[-1][1]) <= batch_size
        assert labels.tolist() == list(range(count))


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_no_picture_is_trained_on_alone_unless_it_has_to_be(count: int, batch_size: int) -> None:
    sizes = [len(labels) for _, labels in batches(numbered(count), batch_size, generator=Generator())]
    assert len(sizes) == shuffled_batches(count, batch_size)
    assert sizes[-1] <= batch_size + 1
    assert (1 in sizes) == (batch_size == 1 or count == 1)
    if count % batch_size != 1:
        assert sizes == [len(labels) for _, labels in batches(numbered(count), batch_size)]


def test_the_generator_shuffles_each_pass_anew_and_repeatably() -> None:
    def passes(seed: int) -> list[list[int]]:
        generator = Generator().manual_seed(seed)
        return [torch.cat([y for _, y in batches(numbered(50), 8, generator=generator)]).tolist() for _ in range(2)]

    assert passes(0) == passes(0)
    assert passes(0)[0] != passes(0)[1]
    assert passes(0) != passes(1)


def test_augmentation_is_applied() -> None:
    (images, labels), *_ = batches(numbered(50), 50, generator=Generator().manual_seed(0), augment="shift")
    assert (images.amax(dim=(1, 2, 3)) == labels).all()
    assert (images.amin(dim=(1, 2, 3)) == 0).sum() > 25


def test_refusals_come_before_the_first_batch() -> None:
    with pytest.raises(InvalidBatches, match="not 0"):
        batches(numbered(3), 0)
    with pytest.raises(InvalidBatches, match="needs a generator"):
        batches(numbered(3), 2, augment="shift")
    with pytest.raises(UnknownAugmentation):
        batches(numbered(3), 2, augment="shear")
