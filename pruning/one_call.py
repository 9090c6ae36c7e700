"""Pruning of a trained model in one call."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from pruning.algorithm import ALGORITHMS, algorithm_names, make_algorithm
from pruning.assignment import Plan
from pruning.dependency.graph import Inputs
from pruning.errors import NeedsTraining
from pruning.sparsity import Sparsity


@dataclass(frozen=True)
class PrunedLayer:
    """One pruned weight: what was asked for and what is there."""

    name: str
    sparsity: Sparsity
    weights: int
    kept: int

    @property
    def effective_rate(self) -> float:
        """Weights before / weights after; whole groups and ragged blocks make it differ from the rate asked for."""
        return self.weights / self.kept


@dataclass(frozen=True)
class PruneReport:
    """What `prune` did."""

    layers: tuple[PrunedLayer, ...]
    skipped: dict[str, str]
    """Layers that were left dense although one Sparsity was given for all, with the reason."""
    masks: dict[str, Tensor] = field(repr=False)
    """Bool mask of every pruned weight, by module name."""


def prune(model: nn.Module, example_inputs: Inputs, plan: Plan, algorithm: str = "magnitude") -> PruneReport:
    """Gives the layers of `model`, in place and without training, the sparsity that `plan` asks for.

    Masks are exact: the number of groups that stay follows from shape and rate alone. Removed filters take their
    batch norm and depthwise followers with them, so that `shrink` can remove them physically. Layers whose outputs are
    added lose the same filters, and layers that read one value the same channels, chosen by the sum of their scores;
    a plan by name has to give all of them one sparsity. To train towards the
    sparsity, or on with masks held, give `make_algorithm` to the training loop instead.

    Args:
        model: is changed only after the whole plan was found to be possible.
        example_inputs: one tensor, or the positional arguments of a forward pass.
        plan: {module name, or pattern such as "layer1.*": Sparsity}; or one Sparsity for every layer that can take
            it, except the first convolution and the last classifier. Layers left out are listed in the report.
        algorithm: the name of one that needs no training, such as "magnitude", "geometric_median" or "lookahead".

    Raises:
        UnknownModule, UnsupportedLayer, InvalidRate, NonFiniteWeights, ZeroWeights, NothingToPrune, CaptureFailed,
        UnknownAlgorithm, NeedsTraining: nothing was changed.
    """
    if ALGORITHMS[algorithm].needs_training:
        others = ", ".join(name for name in algorithm_names() if not ALGORITHMS[name].needs_training)
        raise NeedsTraining(
            f"{algorithm!r} acts while the network is trained. Give make_algorithm({algorithm!r}, model, plan, "
            f"example_inputs) to training.fit, or call its hooks in a loop of your own, and then its finish(). "
            f"Without training there are {others}."
        )
    hooks = make_algorithm(algorithm, model, plan, example_inputs)
    hooks.finish()
    layers = tuple(
        PrunedLayer(target.name, target.sparsity, mask.numel(), int(mask.sum()))
        for target in hooks.assignment.targets
        for mask in [hooks.masks[target.name]]
    )
    return PruneReport(layers, hooks.assignment.skipped, hooks.masks)
