"""What an operator is: a chain of convolutions that fills a site."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self

from supernet.errors import UnknownOperator

ConvKind = Literal["conv", "depthwise"]


@dataclass(frozen=True)
class Conv:
    """One convolution of an operator, before any pruning; padding keeps the size at stride 1."""

    kind: ConvKind
    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """[out_channels, in_channels / groups, kernel, kernel]."""
        inputs = 1 if self.kind == "depthwise" else self.in_channels
        return self.out_channels, inputs, self.kernel, self.kernel


class Place(Protocol):
    """What an operator needs to know about its site."""

    @property
    def in_channels(self) -> int: ...
    @property
    def out_channels(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def shortcut(self) -> bool: ...


@dataclass(frozen=True)
class Operator(ABC):
    """What fills a site. Operators are values: equal when their text is equal."""

    name: ClassVar[str]

    @abstractmethod
    def convs(self, place: Place) -> tuple[Conv, ...]:
        """The convolutions in execution order; empty for the identity."""

    def refuses(self, place: Place) -> str | None:
        """None, or the reason in words why the operator cannot fill the place."""
        return None

    def filter_conv(self, place: Place) -> int | None:
        """Index of the convolution whose filters the `filter` scheme removes, None if that is not offered.

        Removing those of the last one narrows the site's output.
        """
        return len(self.convs(place)) - 1

    def channel_conv(self, place: Place) -> int | None:
        """Index of the convolution whose input channels the `channel` scheme removes, None if that is not offered.

        Between the site's input and that convolution there are only depthwise ones, so the site's input narrows.
        """
        return next(i for i, conv in enumerate(self.convs(place)) if conv.kind == "conv")

    @property
    def family(self) -> str:
        """Operators of one family share one set of weights, of which narrower ones use the first channels."""
        return self.name

    @classmethod
    def from_argument(cls, argument: int | None) -> Self:
        """The operator whose text is `name`, or `name(argument)`."""
        if argument is not None:
            raise UnknownOperator(f"operator {cls.name!r} takes no argument, found {cls.name}({argument})")
        return cls()

    def __str__(self) -> str:
        return self.name
