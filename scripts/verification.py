"""Whether a compiled network computes what torch does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compiler import CompiledModel
from scripts.errors import ResultDiffers

TOLERANCE = 1e-4


def outputs_of(model: nn.Module, examples: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What the network computes, as a tuple."""
    with torch.no_grad():
        return _tuple(model(*examples))


def verified(compiled: CompiledModel, examples: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of a compiled network's outputs, relative to the largest expected number.

    Raises:
        ResultDiffers: it is above 1e-4.
    """
    pairs = zip(_tuple(compiled(*examples)), expected, strict=True)
    error = max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in pairs)
    if not error <= TOLERANCE:
        raise ResultDiffers(error, TOLERANCE)
    return error


def _tuple(outputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
