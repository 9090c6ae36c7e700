"""The structure that the compiler finds in a weight that was pruned by a scheme."""

from __future__ import annotations

from functools import lru_cache

import torch

from compiler import structure_of
from pruning import Sparsity


@lru_cache(maxsize=1 << 16)
def reached_structure(
    weight_shape: tuple[int, ...], sparsity: Sparsity, seen_as: tuple[int, ...] | None = None
) -> Sparsity:
    """The structure that the compiler recognises in a weight pruned like this, at its effective rate.

    It may be a simpler one: a block as tall as a 1x1 convolution removes whole input channels.

    Args:
        seen_as: shape [O, I, kh, kw] in which the compiler sees the weight.
    """
    if sparsity.dense:
        return Sparsity()
    weight = torch.randn(weight_shape, generator=torch.Generator().manual_seed(0))
    masked = weight * sparsity.scheme.mask(weight, sparsity.rate)
    return structure_of(masked.reshape(seen_as or (*weight_shape, *(1,) * (4 - len(weight_shape)))).numpy())
