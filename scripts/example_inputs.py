"""Inputs for a network of the user's own, as the configuration describes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scripts.errors import InvalidSetting


def example_inputs(described: Any, command: str) -> tuple[Tensor, ...]:
    """Random inputs: of one shape, or of each in a list of them.

    Raises:
        InvalidSetting: naming `input` of `command`, if it describes none.
    """
    several = isinstance(described, list) and described and isinstance(described[0], list)
    generator = torch.Generator().manual_seed(0)
    return tuple(_example(one, generator, command) for one in (described if several else [described]))


def _example(described: Any, generator: torch.Generator, command: str) -> Tensor:
    """Random numbers of a shape; behind `int64` zeros and ones, which are indices into any embedding."""
    whole = isinstance(described, list) and described[:1] == ["int64"]
    shape = described[1:] if whole else described
    if not isinstance(shape, list) or not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        allowed = "[1,3,224,224], [int64,1,16] for whole numbers, or a list of such lists for several inputs"
        raise InvalidSetting("input", described, allowed, command)
    return torch.randint(2, shape, generator=generator) if whole else torch.randn(shape, generator=generator)
