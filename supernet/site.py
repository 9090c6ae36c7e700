"""A searchable position of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from supernet.errors import InvalidSpace
from supernet.layer import Activation, check_activation


@dataclass(frozen=True)
class Site:
    """A position with fixed input and output shape, to be filled by an operator.

    The output is act(BN(last convolution) [+ input, with a shortcut]).

    Attributes:
        stage: index of the stage that the site belongs to; sites of equal shape may share one.
        size: height and width of the input.
        narrows: whether pruning may narrow the output although sites with shortcuts carry it on: all of them, and what
            reads them, lose the same channels, so that the width of a stage is a choice of its first site.
    """

    name: str
    stage: int
    in_channels: int
    out_channels: int
    stride: int
    size: int
    shortcut: bool
    activation: Activation
    narrows: bool = False

    def __post_init__(self) -> None:
        if min(self.in_channels, self.out_channels, self.stride, self.size) < 1:
            raise InvalidSpace(f"site {self.name!r}: channels, stride and size are at least 1, found {self}")
        if self.shortcut and (self.stride != 1 or self.in_channels != self.out_channels):
            raise InvalidSpace(
                f"site {self.name!r} has a shortcut, stride {self.stride} and {self.in_channels} -> "
                f"{self.out_channels} channels; a shortcut needs stride 1 and equal channels"
            )
        check_activation(self.activation)

    @property
    def output_size(self) -> int:
        """Height and width of the output."""
        return (self.size - 1) // self.stride + 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `Site(**values)` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Site:
        """Inverse of `to_dict`; InvalidSpace where fields are missing or unknown."""
        try:
            return cls(**values)
        except TypeError as error:
            raise InvalidSpace(f"a site needs exactly the fields {', '.join(cls.__annotations__)}: {error}") from error
