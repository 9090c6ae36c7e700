"""What can go wrong with a search space, a candidate or the training of a supernet."""

from __future__ import annotations

from collections.abc import Sequence


class SupernetError(ValueError):
    """Base of the errors of this package."""


class InvalidSpace(SupernetError):
    """The description of a search space is incomplete or contradicts itself."""


class UnknownOperator(SupernetError):
    """No operator of that name is registered."""


class NoFeasibleOperator(SupernetError):
    """No operator of the space can fill a site."""


class InvalidChoice(SupernetError):
    """A text is not a choice, or the choice is not legal at its site."""


class InvalidCandidate(SupernetError):
    """A candidate does not belong to the search space."""


class InvalidLayers(SupernetError):
    """A list of layers does not describe a network."""


class NothingToSearch(SupernetError):
    """A network of one's own in which no layer has more than one choice."""


class ReconstructionFailed(SupernetError):
    """A replacement operator could not learn what its layer computes."""


class DistortionFailed(SupernetError):
    """What choices do to a network's outputs cannot be told."""


class SupernetCollapsed(SupernetError):
    """The training of a supernet went wrong in a way that more steps do not repair."""

    def __init__(self, signal: str, step: int, steps: int, losses: Sequence[float]) -> None:
        recent = ", ".join(f"{loss:.3g}" for loss in losses)
        super().__init__(
            f"step {step} of {steps}: {signal}. Mean loss of the largest member an epoch so far: {recent or 'none'}. "
            "Halve the learning rate, lengthen the warm-up or leave out the highest rates; the supernet is as it was "
            "before the call, and a checkpoint holds the last epoch that was sound."
        )
        self.signal = signal
        self.step = step
