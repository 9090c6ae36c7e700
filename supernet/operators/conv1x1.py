"""A pointwise convolution."""

from __future__ import annotations

from dataclasses import dataclass

from supernet.operators.base import Conv, Operator, Place


@dataclass(frozen=True)
class Conv1x1(Operator):
    """One 1x1 convolution."""

    name = "conv1x1"

    def convs(self, place: Place) -> tuple[Conv, ...]:
        return (Conv("conv", place.in_channels, place.out_channels, kernel=1, stride=place.stride),)
