"""Splits cut into batches."""

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from training.augmentation import make_augmentation
from training.data import Split
from training.errors import InvalidBatches


def batches(
    split: Split, batch_size: int, *, generator: Generator | None = None, augment: str | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over a split: (images [B, C, H, W], labels [B]); the last batch may be smaller.

    Shuffled pictures are to be trained on, and a batch norm behind a global pooling cannot be trained on one picture: a
    single one that is left over joins the batch before it.

    Args:
        generator: a CPU generator that shuffles and augments; without one the pictures come in their order.
        augment: name of an augmentation (`none`, `shift`, `shift_flip`, `crop_flip`).

    Raises:
        InvalidBatches: the batch size is below one, or there is an augmentation but no generator for it.
        UnknownAugmentation: nothing is called that.
    """
    if batch_size < 1:
        raise InvalidBatches(f"a batch holds at least one picture, not {batch_size}")
    change = make_augmentation(augment or "none")
    if generator is None:
        if augment not in (None, "none"):
            raise InvalidBatches(f"augmentation {augment!r} is random and needs a generator; pass one, or no augment")
        return zip(torch.split(split.images, batch_size), torch.split(split.labels, batch_size), strict=True)
    order = torch.randperm(len(split), generator=generator).to(split.labels.device)
    count = shuffled_batches(len(split), batch_size)
    sizes = [batch_size] * (count - 1) + [len(split) - batch_size * (count - 1)]
    return ((change(split.images[chosen], generator), split.labels[chosen]) for chosen in torch.split(order, sizes))


def shuffled_batches(pictures: int, batch_size: int) -> int:
    """How many batches a shuffled pass over so many pictures has."""
    alone = pictures % batch_size == 1 and 1 < batch_size < pictures
    return math.ceil(pictures / batch_size) - alone
