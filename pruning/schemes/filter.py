"""Filter: whole output filters (rows of a matrix) go."""

from dataclasses import dataclass
from typing import ClassVar

from pruning.scheme import SCHEMES
from pruning.schemes.axis import AxisScheme


@SCHEMES.add
@dataclass(frozen=True)
class Filter(AxisScheme):
    """Keeps the output filters W[o] of largest energy; "filter" or, aligned, "filter(8)"."""

    name: ClassVar[str] = "filter"
    axis: ClassVar[int] = 0
    removes_filters: ClassVar[bool] = True
