"""Errors of this package: what was found, what is allowed, what to do next."""


class PruningError(ValueError):
    """Base of every error that `pruning` raises on purpose."""


class UnknownScheme(PruningError):
    """No scheme of that name is registered."""


class InvalidScheme(PruningError):
    """The scheme exists, its arguments are malformed."""


class InvalidRate(PruningError):
    """A rate that is not a finite number >= 1, or one that the scheme cannot have."""


class UnsupportedShape(PruningError):
    """The scheme has no groups for a weight of this shape."""


class NonFiniteWeights(PruningError):
    """NaN or infinity among the weights: no ranking is meaningful."""


class ZeroWeights(PruningError):
    """All weights of a layer are zero: there is nothing to rank."""


class NothingToPrune(PruningError):
    """One sparsity for all layers, and no layer can take it."""


class UnknownModule(PruningError):
    """The plan names a module that the model does not have."""


class UnsupportedLayer(PruningError):
    """The plan asks for a sparsity that the layer cannot take where it stands."""


class UnknownAlgorithm(PruningError):
    """No pruning algorithm of that name is registered."""


class NeedsTraining(PruningError):
    """The algorithm acts while the network is trained, and that has not happened."""


class InvalidOption(PruningError):
    """An option that the algorithm does not have, or a value outside its range."""


class StateMismatch(PruningError):
    """A saved state that belongs to another model, plan or algorithm."""


class CaptureFailed(PruningError):
    """`torch.export` could not follow the model, so its channels cannot be traced."""


class ShrinkRefused(PruningError):
    """Channels could not be removed without changing the function; the model was left untouched.

    `node` is the name of the graph's operation that stands in the way, None where it is not known.
    """

    def __init__(self, message: str, node: str | None = None) -> None:
        super().__init__(message)
        self.node = node


class BudgetTooSmall(PruningError):
    """No choice of options is within the budget."""

    def __init__(self, budget_ms: float, fastest_ms: float) -> None:
        super().__init__(
            f"the budget is {budget_ms:.4g} ms, and the fastest choice takes {fastest_ms:.4g} ms: allow at least that "
            "much, or offer higher rates or other schemes"
        )
        self.budget_ms = budget_ms
        self.fastest_ms = fastest_ms
