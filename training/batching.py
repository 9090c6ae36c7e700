"""Splits cut into batches."""

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
    return (
        (change(split.images[chosen], generator), split.labels[chosen]) for chosen in torch.split(order, batch_size)
    )
