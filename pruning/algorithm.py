"""Algorithm: how weights get to their sparsity, as hooks around an ordinary training loop."""

import inspect
from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pruning.assignment import Assignment, Hold, Plan
from pruning.dependency.graph import Inputs
from pruning.errors import InvalidOption, StateMismatch, UnknownAlgorithm
from pruning.registry import Registry
from pruning.target import Target


class Algorithm(ABC):
    """Hooks that a training loop calls without knowing which algorithm it runs.

    Before `finish` a subclass pulls the weights towards their sparsity. `finish` projects them; from then on
    `after_step` keeps what was removed at zero, so momentum and weight decay cannot bring it back and training may
    simply go on.
    """

    name: ClassVar[str]
    needs_training: ClassVar[bool] = False
    """What it does happens in the hooks, so that `finish` alone would not be this algorithm."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.masks: dict[str, Tensor] = {}
        """Bool mask of every pruned layer's weight, by module name; empty before `finish`."""
        self._holds: list[Hold] = []
        self._plan = {target.name: str(target.sparsity) for target in assignment.targets}

    @property
    def options(self) -> dict[str, Any]:
        """What it was made with beside the assignment, as plain values by the names of the arguments."""
        return {}

    @property
    def finished(self) -> bool:
        """Whether the masks are fixed."""
        return self.masks.keys() == {target.name for target in self.assignment.targets}

    def penalty(self) -> Tensor:
        """A scalar that is added to the loss of every mini-batch."""
        return torch.zeros(())

    def after_step(self) -> None:
        """Called after every optimizer step: holds the masks once they are fixed."""
        for hold in self._holds:
            hold.apply()

    def after_epoch(self) -> dict[str, float]:
        """Called after every epoch; returns diagnostics for the history."""
        return {}

    def rank(self, target: Target, weight: Tensor) -> Tensor:
        """What decides at `finish` which groups of a target stay: a stand-in of the weight's shape, whose energies
        are the groups' scores. The weight itself, with zeros where it reads removed channels, unless a subclass ranks
        by something else."""
        return weight

    def finish(self) -> None:
        """Projects the weights and fixes the masks. A second call changes nothing."""
        if not self.finished:
            self._fix(self.assignment.masks(self.assignment.weights(), self.rank))
        self.after_step()

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs beside the model: tensors and plain values, in nested mappings."""
        return {
            "algorithm": self.name,
            "options": self.options,
            "plan": dict(self._plan),
            "masks": dict(self.masks),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state_dict`; raises StateMismatch if it is of another algorithm, plan or other options."""
        if state.get("algorithm") != self.name:
            raise StateMismatch(f"the state is of {state.get('algorithm')!r}, this is {self.name!r}; start anew")
        for what, here in (("options", self.options), ("plan", self._plan)):
            there = state.get(what, here)  # which earlier versions did not write
            if there != here:
                raise StateMismatch(f"the state is of the {what} {there}, this has {here}; start anew")
        self._fix(self._tensors(state, "masks") if state["masks"] else {})

    def _fix(self, masks: dict[str, Tensor]) -> None:
        self.masks = masks
        self._holds = self.assignment.holds(masks) if masks else []

    def _tensors(self, state: Mapping[str, Any], key: str) -> dict[str, Tensor]:
        """Copies of a state's tensors, one a target, on the target's device."""
        found, weights = state.get(key, {}), self.assignment.weights()
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        expected = {name: tuple(weight.shape) for name, weight in weights.items()}
        if shapes != expected:
            raise StateMismatch(f"the state's {key} are for {shapes}, this plan has {expected}; start anew")
        return {name: found[name].to(weight.device, copy=True) for name, weight in weights.items()}


ALGORITHMS: Registry[Algorithm] = Registry("pruning.algorithms", "pruning algorithm", UnknownAlgorithm)


def make_algorithm(name: str, model: nn.Module, plan: Plan, example_inputs: Inputs, **options: Any) -> Algorithm:
    """The algorithm called `name`, for the layers of `plan` in `model`; the model is not changed yet.

    Raises UnknownAlgorithm, InvalidOption, and what `Assignment` raises for a plan that cannot be carried out.
    """
    kind = ALGORITHMS[name]
    allowed = list(inspect.signature(kind).parameters)[1:]
    if unknown := sorted(options.keys() - set(allowed)):
        raise InvalidOption(f"{name} has no option {', '.join(unknown)}; it has: {', '.join(allowed) or 'none'}")
    assignment = Assignment(model, example_inputs, plan)
    try:
        return kind(assignment, **options)
    except TypeError as error:
        raise InvalidOption(f"{name} cannot work with {options}: {error}") from error


def check_algorithm(name: str, **options: Any) -> None:
    """Raises UnknownAlgorithm or InvalidOption as `make_algorithm` would, without a network."""
    make_algorithm(name, nn.Linear(1, 1), {}, torch.zeros(1, 1), **options)


def algorithm_names() -> tuple[str, ...]:
    """Names of all registered algorithms, sorted."""
    return ALGORITHMS.names()
