"""The search space of a network that exists already: operator, scheme and rate of its layers, widths of its channels.

There are two kinds of sites. A *layer site* is a convolution or a linear layer: it is kept or replaced by a cheaper
operator, and its weights take a scheme and a rate. A *width site* is a coupled group of channels: whatever makes, adds
or reads them loses the same ones, so that partners agree however the sites are chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pruning import CoupledGroup, PruningError, Scheme, Sparsity, coupled_groups, make_scheme
from supernet.candidate import Candidate, Choice
from supernet.choice_space import ChoiceSpace
from supernet.errors import InvalidSpace, NothingToSearch
from supernet.layer_calls import LayerCall, layer_calls
from supernet.operators import Conv, make_operator
from supernet.replacement import replacement_convs

Prunable = nn.Conv2d | nn.Linear
_KEYS = ("name", "operators", "schemes", "rates")
_KEEP = Choice("keep")


@dataclass(frozen=True, eq=False)
class LayerSite:
    """A layer and what may stand in its place; `replacements` are the convolutions of an operator, by its text."""

    name: str
    layer: Prunable
    label: str
    replacements: Mapping[str, tuple[Conv, ...]]


@dataclass(frozen=True, eq=False)
class WidthSite:
    """Channels that live or die together."""

    name: str
    group: CoupledGroup
    label: str


ModelSite = LayerSite | WidthSite


class ModelSpace(ChoiceSpace):
    """All that a search may change about a network. The first and the last layer stay as they are.

    Args:
        model: is kept and not changed; its weights do not matter.
        example: one input [1, ...].
        config: `name`, `operators` (beside `keep`), `schemes` and `rates`, as in `conf/space/own_model.yaml`. A scheme
            of filters, such as `filter(8)`, is for the widths; schemes of channels are not offered, as channels are
            filters of the layer before.

    Raises:
        CaptureFailed: `torch.export` cannot follow the model.
        InvalidSpace: the configuration is incomplete or contradicts itself.
        NothingToSearch: no layer has more than one choice.
    """

    def __init__(self, model: nn.Module, example: Tensor, config: Mapping[str, Any]) -> None:
        missing, unknown = [key for key in _KEYS if key not in config], [key for key in config if key not in _KEYS]
        if missing or unknown:
            raise InvalidSpace(
                f"the space of a model has the keys {', '.join(_KEYS)}; missing: {', '.join(missing) or 'none'}, "
                f"unknown: {', '.join(unknown) or 'none'}"
            )
        self.name = str(config["name"])
        self.operators = tuple(make_operator(text) for text in config["operators"])
        try:
            schemes = tuple(make_scheme(text) for text in config["schemes"])
        except PruningError as error:
            raise InvalidSpace(f"schemes of space {self.name!r}: {error}") from error
        if wrong := [str(scheme) for scheme in schemes if scheme.removes_channels]:
            raise InvalidSpace(f"{', '.join(wrong)}: channels are filters of the layer before; offer filter(8)")
        self.rates = tuple(sorted({float(rate) for rate in config["rates"]}))
        if not all(math.isfinite(rate) and rate >= 1 for rate in self.rates):
            raise InvalidSpace(f"space {self.name!r}: rates are finite and at least 1, found {list(self.rates)}")
        self.width_schemes = tuple(scheme for scheme in schemes if scheme.removes_filters)
        self.schemes = tuple(scheme for scheme in schemes if not scheme.removes_filters)
        self.model, self.example = model, example
        self.fixed: dict[str, str] = {}
        """Layers and groups of channels that stay as they are, with the reason."""
        self.calls = {call.name: call for call in layer_calls(model, example)}
        groups = coupled_groups(model, example)
        widths = [width for group in groups if (width := self._width_site(model, group)) is not None]
        layers = [layer for call in self.calls.values() if (layer := self._layer_site(call, widths)) is not None]
        self.sites: tuple[ModelSite, ...] = (*layers, *widths)
        if not self.sites:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.fixed.items())
            raise NothingToSearch(
                f"no layer of {type(model).__name__} has more than one choice. {reasons}. Offer more operators, "
                "schemes or rates"
            )

    # Sites ------------------------------------------------------------------------------------------------------

    def _width_site(self, model: nn.Module, group: CoupledGroup) -> WidthSite | None:
        name = f"width of {group.filters[0]}" if group.filters else "a width"
        reason = self._why_fixed_width(model, group)
        if reason is None:
            label = f"width {group.size} of {len(group.filters)}"
            site = WidthSite(name, group, label)
            if len(self._width_choices(site)) > 1:
                return site
            reason = f"no rate takes channels away from its {group.size}"
        self.fixed[name] = reason
        return None

    def _why_fixed_width(self, model: nn.Module, group: CoupledGroup) -> str | None:
        for member in group.members:
            module = model.get_submodule(member.module)
            plain = isinstance(module, nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d) or (
                isinstance(module, nn.Conv2d) and (module.groups == 1 or _depthwise(module))
            )
            if not plain:
                return f"{member.module} is a {type(module).__name__}, from which channels are not taken here"
            if isinstance(module, Prunable) and (call := self.calls.get(member.module)) is not None and call.count > 1:
                return f"{member.module} is called {call.count} times"
            counts = torch.bincount(member.units.clamp_min(0), minlength=group.size)
            if bool((member.units < 0).any()) or int(counts.min()) != int(counts.max()):
                return f"{member.module} has some of its channels only, or other channels too"
        return None

    def _layer_site(self, call: LayerCall, widths: Sequence[WidthSite]) -> LayerSite | None:
        layer, ends = call.layer, (next(iter(self.calls)), next(reversed(self.calls)))
        reason = None
        if call.name in ends:
            reason = "the first and the last layer stay as they are"
        elif call.count > 1 or call.tied:
            reason = "its weight is used more than once"
        elif isinstance(layer, nn.Conv2d) and layer.groups > 1:
            reason = "depthwise convolutions, and others with groups, stay dense"
        elif "weight" not in layer._parameters:
            reason = "its weight is computed from other parameters"
        if reason is None:
            site = LayerSite(call.name, layer, call.label, self._replacements(layer))
            if len(self._layer_choices(site, widths)) > 1:
                return site
            reason = "no operator, scheme and rate fits it"
        self.fixed[call.name] = reason
        return None

    def _replacements(self, layer: Prunable) -> dict[str, tuple[Conv, ...]]:
        if not isinstance(layer, nn.Conv2d):
            return {}
        convs = {str(operator): replacement_convs(layer, operator) for operator in self.operators}
        return {text: found for text, found in convs.items() if not isinstance(found, str)}

    # Choices ----------------------------------------------------------------------------------------------------

    @cached_property
    def _choices(self) -> tuple[tuple[Choice, ...], ...]:
        widths = [site for site in self.sites if isinstance(site, WidthSite)]
        return tuple(
            self._width_choices(site) if isinstance(site, WidthSite) else self._layer_choices(site, widths)
            for site in self.sites
        )

    def _width_choices(self, site: WidthSite) -> tuple[Choice, ...]:
        found, seen = [_KEEP], {site.group.size}
        for scheme in self.width_schemes:
            for rate in self.rates:
                count = scheme.kept_groups((site.group.size, 1), rate)
                if count not in seen:
                    seen.add(count)
                    found.append(Choice("keep", Sparsity(scheme, rate)))
        return tuple(found)

    def _layer_choices(self, site: LayerSite, widths: Sequence[WidthSite]) -> tuple[Choice, ...]:
        found = []
        ranges = tuple(self._range(site.name, axis, widths) for axis in (0, 1))
        for text in ("keep", *site.replacements):
            found.append(Choice(text))
            shapes = pruned_shapes(site, text)
            for scheme in self.schemes:
                if any(scheme.supports(shape) is not None for shape in _narrowed(site, text, *ranges)):
                    continue
                seen = {tuple(scheme.group_count(shape) for shape in shapes)}
                for rate in scheme.rates(self.rates):
                    counts = tuple(scheme.kept_groups(shape, rate) for shape in shapes)
                    if counts not in seen:
                        seen.add(counts)
                        found.append(Choice(text, Sparsity(scheme, rate)))
        return tuple(found)

    def _range(self, name: str, axis: int, widths: Sequence[WidthSite]) -> set[float]:
        """Shares of a layer's filters (axis 0) or channels (1) that may be left."""
        for site in widths:
            if any((m.module, m.tensor, m.axis) == (name, "weight", axis) for m in site.group.members):
                sparsities = [choice.sparsity for choice in self._width_choices(site)]
                return {width_left(site, sparsity) / site.group.size for sparsity in sparsities}
        return {1.0}

    def why_illegal(self, site: int, choice: Choice) -> str:
        """The reason in words why the choice is not among those of the site."""
        return f"the choices are {', '.join(map(str, self._choices[site]))}"

    def largest(self) -> Candidate:
        """The network as it is."""
        return Candidate((_KEEP,) * len(self.sites))

    def smallest(self) -> Candidate:
        """The choice that leaves the fewest weights at every site."""
        picked = []
        for site, choices in zip(self.sites, self._choices, strict=True):
            picked.append(min(choices, key=lambda choice, site=site: _weights_left(site, choice)))  # type: ignore[misc]
        return Candidate(tuple(picked))

    # Descriptions -----------------------------------------------------------------------------------------------

    def labels(self, candidate: Candidate) -> list[str]:
        """One graph label a site: what the layer is, and its choice."""
        return [f"{site.label}:{choice}" for site, choice in zip(self.sites, candidate.choices, strict=True)]

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Layer sites in execution order, each beside the next; and each width beside the layers that share it."""
        index = {site.name: i for i, site in enumerate(self.sites)}
        layers = [i for i, site in enumerate(self.sites) if isinstance(site, LayerSite)]
        edges = set(pairwise(layers))
        for site in self.sites:
            if isinstance(site, WidthSite):
                partners = {index[m.module] for m in site.group.members if m.module in index}
                edges |= {(partner, index[site.name]) for partner in partners}
        return tuple(sorted(edges))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: sites and choices."""
        return {
            "name": self.name,
            "sites": [
                {"name": site.name, "label": site.label, "choices": [str(choice) for choice in choices]}
                for site, choices in zip(self.sites, self._choices, strict=True)
            ],
        }


def width_left(site: WidthSite, sparsity: Sparsity) -> int:
    """How many of the channels stay."""
    return site.group.size if sparsity.dense else sparsity.scheme.kept_groups((site.group.size, 1), sparsity.rate)


def pruned_shapes(site: LayerSite, operator: str) -> list[tuple[int, ...]]:
    """Shapes of the weights that a scheme prunes: all but depthwise ones."""
    if operator == "keep":
        return [tuple(site.layer.weight.shape)]
    return [conv.weight_shape for conv in site.replacements[operator] if conv.kind == "conv"]


def _narrowed(site: LayerSite, operator: str, rows: set[float], columns: set[float]) -> Iterator[tuple[int, ...]]:
    """The same shapes under every width of the channels around the layer."""
    shapes = pruned_shapes(site, operator)
    for i, (filters, channels, *kernel) in enumerate(shapes):
        for row in rows if i == len(shapes) - 1 else {1.0}:
            for column in columns if i == 0 else {1.0}:
                yield (round(row * filters), round(column * channels), *kernel)


def _weights_left(site: ModelSite, choice: Choice) -> float:
    if isinstance(site, WidthSite):
        return width_left(site, choice.sparsity)
    if choice.operator == "keep":
        shapes: list[tuple[int, ...]] = [tuple(site.layer.weight.shape)]
    else:
        shapes = [conv.weight_shape for conv in site.replacements[choice.operator]]
    dense = {shape for shape in shapes if shape not in pruned_shapes(site, choice.operator)}
    return sum(math.prod(shape) / (1 if shape in dense else _reached(choice.sparsity, shape)) for shape in shapes)


def _reached(sparsity: Sparsity, shape: tuple[int, ...]) -> float:
    scheme: Scheme = sparsity.scheme
    return scheme.group_count(shape) / scheme.kept_groups(shape, sparsity.rate)


def _depthwise(conv: nn.Conv2d) -> bool:
    return 1 < conv.groups == conv.in_channels == conv.out_channels
