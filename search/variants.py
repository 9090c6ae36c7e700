"""A network's layers under every sparsity of a menu: what each would lose, and the kernels it would run with."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from compiler import SELF_CONTAINED, Call, KernelSpec, Lowering, Target
from pruning import Sparsity
from pruning.assignment import Assignment
from pruning.dependency.graph import Inputs
from pruning.errors import NothingToPrune, UnsupportedLayer
from pruning.importance import Importance
from pruning.knapsack import Pick
from pruning.scheme import make_scheme

Plan = dict[str, Sparsity]


@dataclass(frozen=True)
class Menu:
    """Sparsities on offer: every scheme at every rate. Layers may stay dense too."""

    schemes: tuple[str, ...]
    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        for scheme in self.schemes:
            if make_scheme(scheme).removes_channels:
                raise UnsupportedLayer(
                    f"{scheme} cannot be offered for an allocation: a layer's channels are filters of the layer before "
                    "it. Offer filter instead"
                )
        if not any(not sparsity.dense for sparsity in self.sparsities):
            raise NothingToPrune("the menu offers nothing but dense; give at least one scheme and one rate above 1")

    @property
    def sparsities(self) -> tuple[Sparsity, ...]:
        """All of them."""
        return tuple(Sparsity(scheme, rate) for scheme in self.schemes for rate in self.rates)

    def rates_of(self, scheme: str) -> list[Sparsity]:
        """Those of one scheme that prune, the sparsest last."""
        return [Sparsity(scheme, rate) for rate in make_scheme(scheme).rates(self.rates)]


@dataclass(frozen=True)
class Variant:
    """The network with some layers under one sparsity and all others dense.

    `lost` is the importance of the weights that go, `added` and `removed` the kernels by which the network differs
    from the dense one.
    """

    layers: tuple[str, ...]
    sparsity: Sparsity
    lost: float
    added: tuple[KernelSpec, ...]
    removed: tuple[KernelSpec, ...]


@dataclass(frozen=True)
class VariantSite:
    """A layer, or layers whose filters are coupled: `alternatives[i][j]` are the variants of one slot.

    In the first alternative every layer is a slot of its own; in the others all layers lose the same filters.
    """

    layers: tuple[str, ...]
    alternatives: tuple[tuple[tuple[Variant, ...], ...], ...]


@dataclass
class _Offers:
    """What is found while the menu is gone through."""

    single: dict[str, list[Variant]] = field(default_factory=dict)
    """By layer."""
    joint: dict[tuple[str, ...], dict[str, list[Variant]]] = field(default_factory=dict)
    """By layers that lose filters together, and by scheme."""
    refused: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By layer, and by reason, the schemes that it cannot take."""
    nowhere: list[str] = field(default_factory=list)
    """Reasons of schemes that no layer can take."""

    def of(self, name: str) -> list[Variant]:
        """What a layer is offered for itself; dense first."""
        filters = self.joint.get((name,), {}).values()
        dense = Variant((name,), Sparsity(), 0.0, (), ())
        return [dense, *self.single.get(name, []), *(variant for slot in filters for variant in slot)]

    def of_several(self, layers: Collection[str]) -> list[tuple[Variant, ...]]:
        """What more than one of these layers are offered together, a slot a scheme."""
        slots = [tuple(slot) for by_scheme in self.joint.values() for slot in by_scheme.values()]
        return [slot for slot in slots if len(slot[0].layers) > 1 and slot[0].layers[0] in layers]


class Variants:
    """The sites of a network, and the kernels of any plan for them, found without compiling or training anything.

    Kernels that cannot be timed by themselves, such as movements of data, are left out: a predictor that is fitted to
    this network's measured latencies has them in its overhead.

    Args:
        model: a copy of it is worked with.
        example_inputs: one tensor, or the positional arguments of a forward pass.
        menu: what every layer is offered, except the first convolution and the last classifier.
        importance: of the weights, see `pruning.importance`.
        device: what is compiled for.

    Raises:
        NothingToPrune: no layer can take anything of the menu.
        CaptureFailed, NonFiniteWeights, ZeroWeights, CompilerError: the network cannot be pruned, or be compiled.
    """

    def __init__(
        self, model: nn.Module, example_inputs: Inputs, menu: Menu, importance: Importance, device: str | Target
    ) -> None:
        self._model = copy.deepcopy(model).eval()
        self._example_inputs = example_inputs
        self._weights = {name: value.clone() for name, value in self._model.state_dict().items()}
        self._importance = importance
        self._lowering = Lowering(self._model, example_inputs, device)
        self._dense_calls = self._lowering.calls()
        self.dense = _kernels(self._dense_calls)
        """Kernels of the dense network."""
        offers = _Offers()
        for scheme in menu.schemes:
            self._offer(menu.rates_of(scheme), offers)
        self.sites = tuple(self._sites(offers))
        if not self.sites:
            reasons = "; ".join(offers.nowhere)
            raise NothingToPrune(f"no layer of {type(model).__name__} can take anything of the menu. {reasons}")
        offered = {name for site in self.sites for name in site.layers}
        self.skipped = {name: _reason(why) for name, why in offers.refused.items() if name not in offered}
        """Layers that can take nothing of the menu, with the reasons."""

    def kernels(self, plan: Plan) -> tuple[KernelSpec, ...]:
        """The kernels of the network under a plan, all its interplay included, in execution order."""
        return _kernels(self.calls(plan))

    def calls(self, plan: Plan) -> tuple[Call, ...]:
        """As `kernels`, each with the layer that it computes."""
        assignment = Assignment(self._model, self._example_inputs, plan)
        return self._lowered(assignment, assignment.masks(assignment.weights()))

    def plan(self, picks: Sequence[Pick]) -> Plan:
        """The plan of a choice at every site; layers that stay dense are left out."""
        chosen = (
            slot[option]
            for site, pick in zip(self.sites, picks, strict=True)
            for slot, option in zip(site.alternatives[pick.alternative], pick.options, strict=True)
        )
        return {name: variant.sparsity for variant in chosen if not variant.sparsity.dense for name in variant.layers}

    def random_plan(self, generator: np.random.Generator) -> Plan:
        """A plan with one variant at random of every slot."""
        picks = []
        for site in self.sites:
            number = int(generator.integers(len(site.alternatives)))
            picks.append(Pick(number, tuple(int(generator.integers(len(slot))) for slot in site.alternatives[number])))
        return self.plan(picks)

    def pool(self) -> tuple[KernelSpec, ...]:
        """The distinct kernels of the dense network and of all variants."""
        variants = (v for site in self.sites for alternative in site.alternatives for slot in alternative for v in slot)
        return tuple(dict.fromkeys([*self.dense, *(spec for variant in variants for spec in variant.added)]))

    def _offer(self, sparsities: Sequence[Sparsity], offers: _Offers) -> None:
        """Adds the variants of one scheme."""
        if not sparsities:
            return
        try:
            assignment = Assignment(self._model, self._example_inputs, sparsities[-1])
        except NothingToPrune as error:
            offers.nowhere.append(str(error))
            return
        scheme = str(sparsities[-1].scheme)
        for name, reason in assignment.skipped.items():
            offers.refused.setdefault(name, {}).setdefault(reason, []).append(scheme)
        coupled = assignment.coupled()
        for sparsity in sparsities:
            at = assignment.at(lambda target, sparsity=sparsity: sparsity)  # type: ignore[misc]
            masks = at.masks(at.weights())
            pruned = [target.name for target in at.targets if not bool(masks[target.name].all())]
            for names in coupled:
                if set(pruned).issuperset(names):
                    calls = self._lowered(at, _only(masks, names))
                    variant = self._variant(names, sparsity, masks, self.dense, _kernels(calls))
                    offers.joint.setdefault(names, {}).setdefault(scheme, []).append(variant)
            if not coupled:
                calls = self._lowered(at, masks)
                for name in pruned:
                    variant = self._variant((name,), sparsity, masks, _of(self._dense_calls, name), _of(calls, name))
                    offers.single.setdefault(name, []).append(variant)

    def _variant(
        self,
        names: tuple[str, ...],
        sparsity: Sparsity,
        masks: Mapping[str, Tensor],
        before: Iterable[KernelSpec],
        after: Iterable[KernelSpec],
    ) -> Variant:
        lost = sum(self._importance.lost(name, masks[name]) for name in names)
        old, new = Counter(before), Counter(after)
        return Variant(names, sparsity, lost, tuple((new - old).elements()), tuple((old - new).elements()))

    def _sites(self, offers: _Offers) -> Iterator[VariantSite]:
        order = [name for name, _ in self._model.named_modules()]
        for joined in _together([*((name,) for name in offers.single), *offers.joint]):
            layers = tuple(name for name in order if name in joined)
            slots = {name: tuple(offers.of(name)) for name in layers}
            alternatives = [tuple(slots.values())]
            for slot in offers.of_several(joined):
                others = (slots[name] for name in layers if name not in slot[0].layers)
                alternatives.append((slot, *others))
            yield VariantSite(layers, tuple(alternatives))

    def _lowered(self, assignment: Assignment, masks: Mapping[str, Tensor]) -> tuple[Call, ...]:
        """The kernels under these masks; the weights are what they were afterwards."""
        try:
            for hold in assignment.holds(masks):
                hold.apply()
            return self._lowering.calls()
        finally:
            with torch.no_grad():
                for name, value in self._model.state_dict().items():
                    value.copy_(self._weights[name])


def _reason(why: Mapping[str, Sequence[str]]) -> str:
    """Why a layer can take no scheme: one reason for all, or each with the schemes that it is about."""
    if len(why) == 1:
        return next(iter(why))
    return "; ".join(f"{', '.join(schemes)}: {reason}" for reason, schemes in why.items())


def _together(groups: Iterable[tuple[str, ...]]) -> list[set[str]]:
    """Names that share a group, directly or by way of others."""
    sets: list[set[str]] = []
    for names in groups:
        joined = set(names).union(*(found for found in sets if found & set(names)))
        sets = [found for found in sets if not found & joined] + [joined]
    return sets


def _only(masks: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Masks that prune these layers alone."""
    return {name: mask if name in names else torch.ones_like(mask) for name, mask in masks.items()}


def _of(calls: Sequence[Call], layer: str) -> tuple[KernelSpec, ...]:
    return _kernels([call for call in calls if call.layer == layer])


def _kernels(calls: Sequence[Call]) -> tuple[KernelSpec, ...]:
    return tuple(call.spec for call in calls if call.spec.op in SELF_CONTAINED)
