"""Whether a compiled network computes what torch does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compiler import CompiledModel
from scripts.errors import NotRunnable, ResultDiffers

TOLERANCE = 1e-4


def outputs_of(model: nn.Module, examples: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What the network computes, as a tuple.

    Raises:
        NotRunnable: it raises, or gives something else than a tensor or a sequence of tensors.
    """
    network, shapes = type(model).__name__, [example.shape for example in examples]
    try:
        with torch.no_grad():
            outputs = model(*examples)
    except Exception as error:
        raise NotRunnable(network, shapes, str(error)) from error
    several = isinstance(outputs, tuple | list) and all(isinstance(output, Tensor) for output in outputs)
    if not isinstance(outputs, Tensor) and not several:
        raise NotRunnable(network, shapes, f"it returns a {type(outputs).__name__}")
    return _tuple(outputs)


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
