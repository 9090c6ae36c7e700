"""What can go wrong with a search space, a candidate or the training of a supernet."""

from __future__ import annotations


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


class InvalidRecipe(SupernetError):
    """A training recipe holds a value outside of its range."""


class CheckpointMismatch(SupernetError):
    """A checkpoint was written by a run of another space, recipe or seed."""


class SupernetCollapsed(SupernetError):
    """The training of a supernet went wrong in a way that more steps do not repair."""
