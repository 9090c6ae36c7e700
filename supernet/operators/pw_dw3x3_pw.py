"""The expanded separable convolution of MobileNetV2 (1801.04381)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from supernet.errors import UnknownOperator
from supernet.operators.base import Conv, Operator, Place


@dataclass(frozen=True)
class PwDw3x3Pw(Operator):
    """A 1x1 convolution to `expansion` times the channels, 3x3 depthwise, 1x1 back.

    The `filter` scheme removes expanded channels, which no shortcut can forbid; `channel` is not offered.
    """

    expansion: int

    name = "pw_dw3x3_pw"

    def convs(self, place: Place) -> tuple[Conv, ...]:
        expanded = self.expansion * place.in_channels
        return (
            Conv("conv", place.in_channels, expanded, kernel=1),
            Conv("depthwise", expanded, expanded, kernel=3, stride=place.stride),
            Conv("conv", expanded, place.out_channels, kernel=1),
        )

    def filter_conv(self, place: Place) -> int:
        return 0

    def channel_conv(self, place: Place) -> None:
        return None

    @classmethod
    def from_argument(cls, argument: int | None) -> Self:
        if argument is None or argument < 1:
            raise UnknownOperator(f"{cls.name} needs its expansion, at least 1: write {cls.name}(3) or {cls.name}(6)")
        return cls(argument)

    def __str__(self) -> str:
        return f"{self.name}({self.expansion})"
