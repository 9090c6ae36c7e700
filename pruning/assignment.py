"""Which layers of a model take which sparsity, checked, and the projection of all of them together."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pruning.dependency.coupling import Coupling
from pruning.dependency.graph import Inputs
from pruning.dependency.tracing import trace
from pruning.errors import NothingToPrune, UnsupportedLayer, ZeroWeights
from pruning.joint import Decision, decisions
from pruning.patterns import by_name
from pruning.scheme import check_finite
from pruning.sparsity import Sparsity, project
from pruning.target import Target

Plan = Sparsity | Mapping[str, Sparsity]
Rank = Callable[[Target, Tensor], Tensor]
"""From a target and its weight, with zeros where it reads removed channels, to a stand-in of the weight's shape: the
groups whose stand-in has most energy stay."""


@dataclass(frozen=True)
class Hold:
    """Entries of one tensor that are zero from now on: where `kept` (broadcast over trailing axes) is False."""

    module: nn.Module
    attribute: str
    kept: Tensor

    def apply(self) -> None:
        """Zeroes the entries in place."""
        tensor: Tensor = getattr(self.module, self.attribute).data
        removed = ~self.kept.to(tensor.device)
        tensor.masked_fill_(removed.reshape(*removed.shape, *[1] * (tensor.dim() - removed.dim())), 0)


class Assignment:
    """A plan that was checked against a model. Nothing is changed before `holds` are applied.

    Args:
        model: holds the layers.
        example_inputs: arguments of a forward pass; used where channels have to be followed through the network.
        plan: a Sparsity for each named layer, dense ones are ignored, `*` in a name stands for any letters; or one
            Sparsity for every layer that can take it, except the first convolution and the last classifier.

    Raises:
        UnknownModule, UnsupportedLayer, InvalidRate, NonFiniteWeights, ZeroWeights, NothingToPrune, CaptureFailed: the
            plan cannot be carried out.
    """

    def __init__(self, model: nn.Module, example_inputs: Inputs, plan: Plan) -> None:
        self.skipped: dict[str, str] = {}
        """Layers that one Sparsity for all left dense, with the reason."""
        self.model = model
        self.example_inputs = example_inputs
        wanted = _every_layer(model, plan) if isinstance(plan, Sparsity) else _named_layers(model, plan)
        uniform = isinstance(plan, Sparsity)
        follow = bool(wanted) and (uniform or any(target.structural for target in wanted))
        self._coupling = Coupling(trace(model, example_inputs)) if follow else None
        self._decisions: list[Decision] = []
        self.targets: tuple[Target, ...] = self._in_order(self._check(wanted, uniform))
        """Layers to prune; in execution order where the network had to be followed."""
        while self._coupling is not None and (reasons := self._decide(self._coupling, example_inputs)):
            for target in self.targets:
                if target.name in reasons:
                    self._refuse(target, reasons[target.name], uniform)
            self.targets = tuple(target for target in self.targets if target.name not in reasons)
        if wanted and not self.targets:
            skipped = "; ".join(f"{name!r}: {reason}" for name, reason in self.skipped.items())
            raise NothingToPrune(f"no layer of {type(model).__name__} can take {plan}. {skipped}")

    def at(self, sparsity: Callable[[Target], Sparsity]) -> "Assignment":
        """The same layers at other rates of their schemes; of coupled layers the lowest counts for all."""
        other = copy.copy(self)
        targets = {target.name: replace(target, sparsity=sparsity(target)) for target in self.targets}
        other.targets = tuple(targets.values())
        other._decisions = []
        for decision in self._decisions:
            members = [targets[target.name] for target in decision.targets]
            lowest = min((member.sparsity for member in members), key=lambda found: found.rate)
            coupled = tuple(replace(member, sparsity=lowest) for member in members)
            other._decisions.append(replace(decision, targets=coupled))
        return other

    def coupled(self) -> list[tuple[str, ...]]:
        """The structural targets, those together that take one sparsity because their filters, or channels, are one."""
        sets: list[set[str]] = []
        for decision in self._decisions:
            joined = {target.name for target in decision.targets}
            joined = joined.union(*(names for names in sets if names & joined))
            sets = [names for names in sets if not names & joined] + [joined]
        return [tuple(target.name for target in self.targets if target.name in names) for names in sets]

    def weights(self) -> dict[str, Tensor]:
        """The targets' weights as they are now, without gradient."""
        return {target.name: target.module.weight.detach() for target in self.targets}

    def masks(self, weights: Mapping[str, Tensor], rank: Rank | None = None) -> dict[str, Tensor]:
        """Bool mask of every target for these weights, which must have the shapes of its own.

        Coupled filters, or channels, are chosen once for all layers. Input channels whose producer's filter is
        removed do not count in a layer's scores. Convolutions with groups are masked group by group.

        Args:
            rank: what decides instead of the weights themselves.
        """
        return self._choose(weights, rank)[0]

    def holds(self, masks: Mapping[str, Tensor]) -> list[Hold]:
        """What has to stay zero for these masks: weights, and all that would let a removed filter speak again."""
        holds = [Hold(target.module, "weight", masks[target.name]) for target in self.targets]
        if self._coupling is not None:
            removed = self._nothing_removed()
            for target in self.targets:
                self._remove(target, masks[target.name], removed)
            holds += [Hold(*silent) for silent in self._coupling.silent(self.model, removed)]
        return holds

    def _check(self, wanted: Iterable[Target], uniform: bool) -> list[Target]:
        accepted: list[Target] = []
        for target in wanted:
            reason = self._why_not(target, accepted) or (self._why_leave(target) if uniform else None)
            if reason is None:
                target.sparsity.scheme.check(target.group_shape, target.sparsity.rate)
                _check_weights(target)
                accepted.append(target)
            else:
                self._refuse(target, reason, uniform)
        return accepted

    def _refuse(self, target: Target, reason: str, uniform: bool) -> None:
        if not uniform:
            raise UnsupportedLayer(
                f"{target.name!r} cannot take {target.sparsity}: {reason}. Use another scheme or leave it dense."
            )
        self.skipped[target.name] = reason

    def _decide(self, coupling: Coupling, example_inputs: Inputs) -> dict[str, str]:
        """Prepares the decisions about coupled layers; returns the layers that cannot take part, with the reasons.

        What the masks of today's weights remove is really taken out, on a copy.
        """
        self._decisions = decisions(self.targets, coupling)
        wrong = {decision: decision.why_not() for decision in self._decisions}
        if not any(wrong.values()):
            masks, gone = self._choose(self.weights())
            masks = {target.name: masks[target.name] for target in self.targets if target.structural}
            if idle := {name for name, mask in masks.items() if bool(mask.all())}:
                return {t.name: d.why_idle() for d in self._decisions for t in d.targets if t.name in idle}
            total = torch.stack([*gone, self._nothing_removed()]).any(0)
            needed = coupling.still_needed(masks, total)
            for decision, sets in zip(self._decisions, gone, strict=True):
                wrong[decision] = decision.why_needed(coupling) if bool((needed & sets).any()) else None
            if not any(wrong.values()) and (found := coupling.obstacle(masks, total, example_inputs)) is not None:
                for decision, sets in zip(self._decisions, gone, strict=True):
                    wrong[decision] = found[0] if bool((found[1] & sets).any()) else None
        return {target.name: reason for decision, reason in wrong.items() if reason for target in decision.targets}

    def _why_not(self, target: Target, accepted: list[Target]) -> str | None:
        module, scheme = target.module, target.sparsity.scheme
        if "weight" not in module._parameters:
            return "its weight is computed from other parameters; remove the parametrization first"
        for other in accepted:
            if other.module.weight is module.weight:
                return f"it shares its weight with {other.name!r}"
        if isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels:
            return "depthwise layers stay dense, their filters follow those of the layer before"
        reason = scheme.supports(target.group_shape) or _why_no_effect(target)
        if reason is not None or self._coupling is None:
            return reason
        if scheme.removes_filters and (reason := self._coupling.why_not_filters(target.name)) is not None:
            return reason
        return self._coupling.why_not_channels(target.name) if scheme.removes_channels else None

    def _why_leave(self, target: Target) -> str | None:
        assert self._coupling is not None
        if isinstance(target.module, nn.Conv2d) and self._coupling.reads_network_input(target.name):
            return "the first convolution stays dense unless the plan names it"
        if isinstance(target.module, nn.Linear) and self._coupling.makes_network_output(target.name):
            return "the last classifier stays dense unless the plan names it"
        return None

    def _in_order(self, targets: list[Target]) -> tuple[Target, ...]:
        if self._coupling is None:
            return tuple(targets)
        position = {name: index for index, name in enumerate(self._coupling.order)}
        return tuple(sorted(targets, key=lambda target: position.get(target.name, len(position))))

    def _nothing_removed(self) -> Tensor:
        return torch.zeros(0 if self._coupling is None else self._coupling.size, dtype=torch.bool)

    def _choose(
        self, weights: Mapping[str, Tensor], rank: Rank | None = None
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Masks by layer, and for every decision the coupled sets (bool [size]) that it removes."""
        removed = self._nothing_removed()
        masks: dict[str, Tensor] = {}
        gone = dict.fromkeys(self._decisions, self._nothing_removed())
        for target in self.targets:
            for decision in self._decisions:
                if target.name == decision.targets[0].name:
                    members = decision.targets
                    kept = decision.kept(
                        [self._ranked(member, weights[member.name], removed, rank) for member in members]
                    )
                    for name, mask in decision.masks(kept).items():
                        masks[name] = masks[name] & mask if name in masks else mask
                    gone[decision] = decision.gone(kept, len(removed))
                    removed |= gone[decision] & decision.removes_filters
            if not target.structural:
                parts = self._ranked(target, weights[target.name], removed, rank).chunk(target.groups)
                masks[target.name] = torch.cat([project(part, target.sparsity) for part in parts])
        return {target.name: masks[target.name] for target in self.targets}, list(gone.values())

    def _ranked(self, target: Target, weight: Tensor, removed: Tensor, rank: Rank | None) -> Tensor:
        living = self._living(target, weight, removed)
        return living if rank is None else rank(target, living)

    def _living(self, target: Target, weight: Tensor, removed: Tensor) -> Tensor:
        """The weight without the input channels whose producers are removed."""
        if self._coupling is None or target.name not in self._coupling.inputs:
            return weight
        dead = removed[self._coupling.inputs[target.name]].reshape(target.groups, 1, -1).to(weight.device)
        by_group = weight.reshape(target.groups, -1, *weight.shape[1:])
        dead = dead.reshape(*dead.shape, *[1] * (by_group.dim() - dead.dim()))
        return by_group.masked_fill(dead, 0).reshape(weight.shape)

    def _remove(self, target: Target, mask: Tensor, removed: Tensor) -> None:
        if target.sparsity.scheme.removes_filters and self._coupling is not None:
            gone = ~mask.flatten(1).any(1).cpu()
            removed[self._coupling.outputs[target.name][gone]] = True


def _every_layer(model: nn.Module, sparsity: Sparsity) -> list[Target]:
    if sparsity.dense:
        return []
    return [
        Target(name, module, sparsity)
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]


def _named_layers(model: nn.Module, plan: Mapping[str, Sparsity]) -> list[Target]:
    modules = dict(model.named_modules())
    targets = []
    for name, sparsity in by_name(model, plan).items():
        module = modules[name]
        if sparsity.dense:
            continue
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            raise UnsupportedLayer(f"{name!r} is a {type(module).__name__}; only Conv2d and Linear layers are pruned")
        targets.append(Target(name, module, sparsity))
    return targets


def _why_no_effect(target: Target) -> str | None:
    """None, or the reason why the sparsity would not do to the weight what it says."""
    scheme, rate, shape = target.sparsity.scheme, target.sparsity.rate, target.group_shape
    weights = math.prod(shape)
    if rate > weights:
        return f"it has {weights} weights a group, and rate {rate:g} would leave less than one of them"
    if scheme.kept_groups(shape, rate) == scheme.group_count(shape):
        return (
            f"all {scheme.group_count(shape)} groups of its {'x'.join(map(str, shape))} weights would stay: blocks are "
            "as large as the layer, or the rate is too close to 1"
        )
    return None


def _check_weights(target: Target) -> None:
    weight = target.module.weight.detach()
    check_finite(weight)
    if not bool(weight.any()):
        raise ZeroWeights(f"all weights of {target.name!r} are zero, none can be ranked; train it or leave it dense")
