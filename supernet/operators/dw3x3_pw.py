"""The separable convolution of MobileNet (1704.04861)."""

from __future__ import annotations

from dataclasses import dataclass

from supernet.operators.base import Conv, Operator, Place


@dataclass(frozen=True)
class Dw3x3Pw(Operator):
    """A 3x3 depthwise convolution, then a 1x1 convolution."""

    name = "dw3x3_pw"

    def convs(self, place: Place) -> tuple[Conv, ...]:
        return (
            Conv("depthwise", place.in_channels, place.in_channels, kernel=3, stride=place.stride),
            Conv("conv", place.in_channels, place.out_channels, kernel=1),
        )
