"""Channel: whole input channels (columns of a matrix) go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pruning.scheme import SCHEMES
from pruning.schemes.axis import AxisScheme


@SCHEMES.add
@dataclass(frozen=True)
class Channel(AxisScheme):
    """Keeps the input channels W[:, c] of largest energy; "channel" or, aligned, "channel(8)"."""

    name: ClassVar[str] = "channel"
    axis: ClassVar[int] = 1
    removes_channels: ClassVar[bool] = True

    def supports(self, shape: Sequence[int]) -> str | None:
        if (reason := super().supports(shape)) is not None:
            return reason
        return "there is only one input channel" if shape[1] == 1 else None
