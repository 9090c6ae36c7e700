"""One-shot magnitude pruning: project, then train what is left."""

from typing import ClassVar

from pruning.algorithm import ALGORITHMS, Algorithm


@ALGORITHMS.add
class Magnitude(Algorithm):
    """Trains densely until `finish`, which keeps the groups of largest energy."""

    name: ClassVar[str] = "magnitude"
