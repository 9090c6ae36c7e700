"""Connected components, and what is different."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def distinct(values: Tensor) -> Tensor:
    """The different values, ascending."""
    return torch.from_numpy(np.unique(values.numpy()))


def components(size: int, edges: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Number of the component of each of `size` elements, int64 [size], counted in the order of first elements.

    Args:
        edges: pairs of equally many elements; left[i] and right[i] are connected.
    """
    pairs = [(left.numpy(), right.numpy()) for left, right in edges]
    labels = np.arange(size)
    if pairs:
        left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
        changed = True
        while changed:
            before = labels.copy()
            low = np.minimum(labels[left], labels[right])
            for side in (left, right):
                np.minimum.at(labels, labels[side], low)
            while not np.array_equal(labels, labels[labels]):
                labels = labels[labels]
            changed = not np.array_equal(labels, before)
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1].astype(np.int64))
