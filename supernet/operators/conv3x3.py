"""A full 3x3 convolution."""

from __future__ import annotations

from dataclasses import dataclass

from supernet.operators.base import Conv, Operator, Place


@dataclass(frozen=True)
class Conv3x3(Operator):
    """One 3x3 convolution."""

    name = "conv3x3"

    def convs(self, place: Place) -> tuple[Conv, ...]:
        return (Conv("conv", place.in_channels, place.out_channels, kernel=3, stride=place.stride),)
