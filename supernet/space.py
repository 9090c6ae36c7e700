"""The search space: which choices each site has, and how candidates are drawn, changed and described."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pruning import PruningError, Scheme, make_scheme
from supernet.candidate import Candidate, Choice
from supernet.chain import Chain, Frame, build_chain
from supernet.choice_space import ChoiceSpace
from supernet.errors import InvalidSpace, NoFeasibleOperator
from supernet.layer import Layer
from supernet.legality import legal_choices, refuses
from supernet.operators import Operator, make_operator
from supernet.site import Site


@dataclass(frozen=True)
class SearchSpace(ChoiceSpace):
    """Sites, and the operators, schemes and rates that may fill them.

    Attributes:
        operators: in the order in which `choices` lists them.
        rates: the menu of every scheme, but those that have one rate only; 1 is dense, which is always there.
        reference: the operator that fills every site of the dense reference network, see `largest`.

    Raises:
        NoFeasibleOperator: a site to which no operator fits.
        InvalidSpace: a rate below 1, or a site that the reference cannot fill.
    """

    name: str
    frame: Frame
    sites: tuple[Site, ...]
    operators: tuple[Operator, ...]
    schemes: tuple[Scheme, ...]
    rates: tuple[float, ...]
    reference: Operator

    def __post_init__(self) -> None:
        if not self.sites:
            raise InvalidSpace(f"space {self.name!r} has no sites; list at least one")
        if not all(math.isfinite(rate) and rate >= 1 for rate in self.rates):
            raise InvalidSpace(f"space {self.name!r}: rates are finite and at least 1, found {list(self.rates)}")
        self._check_widths()
        for index, site in enumerate(self.sites):
            if not self._choices[index]:
                reasons = "; ".join(f"{operator}: {operator.refuses(site)}" for operator in self.operators)
                raise NoFeasibleOperator(
                    f"site {site.name!r} of space {self.name!r} has no feasible operator "
                    f"({reasons or 'none is listed'}); add an operator that fits, or change the site"
                )
            if Choice(str(self.reference)) not in self._choices[index]:
                raise InvalidSpace(
                    f"site {site.name!r} of space {self.name!r} cannot hold the reference operator {self.reference}; "
                    "choose a reference that is among the operators and fits every site"
                )

    def _check_widths(self) -> None:
        channels, size = self.frame.stem_channels, (self.frame.size - 1) // self.frame.stem_stride + 1
        for site in self.sites:
            if (site.in_channels, site.size) != (channels, size):
                raise InvalidSpace(
                    f"site {site.name!r} of space {self.name!r} takes {site.in_channels} channels of "
                    f"{site.size}x{site.size}, but what is in front of it gives {channels} of {size}x{size}"
                )
            channels, size = site.out_channels, site.output_size

    # Choices ----------------------------------------------------------------------------------------------------

    @cached_property
    def _choices(self) -> tuple[tuple[Choice, ...], ...]:
        return tuple(
            tuple(legal_choices(self.sites, index, self.operators, self.schemes, self.rates))
            for index in range(len(self.sites))
        )

    def refuses(self, site: int, operator: Operator, scheme: Scheme) -> str | None:
        """None, or the reason in words why the operator cannot have the scheme at the site."""
        return refuses(self.sites, site, operator, scheme)

    # Candidates -------------------------------------------------------------------------------------------------

    def largest(self) -> Candidate:
        """The dense reference network: the reference operator at every site."""
        return Candidate((Choice(str(self.reference)),) * len(self.sites))

    def smallest(self) -> Candidate:
        """The cheapest choice at every site: fewest multiply-accumulates left while the others are as in `largest`."""
        largest = self.largest().choices
        picked = []
        for site, choices in enumerate(self._choices):
            around = (Candidate((*largest[:site], choice, *largest[site + 1 :])) for choice in choices)
            picked.append(choices[int(np.argmin([_macs(self.layers(candidate)) for candidate in around]))])
        return Candidate(tuple(picked))

    def relative_size(self, candidate: Candidate) -> float:
        """0 for `smallest` and what is no larger, 1 for `largest` and what is no smaller, between them log-linear.

        Counted in multiply-accumulates.

        Raises:
            InvalidCandidate: the candidate is not of this space.
        """
        low, high = self._extent
        return min(max((math.log(_macs(self.layers(candidate))) - low) / (high - low), 0.0), 1.0)

    @cached_property
    def _extent(self) -> tuple[float, float]:
        low, high = (math.log(_macs(self.layers(end))) for end in (self.smallest(), self.largest()))
        return low, max(high, math.nextafter(low, math.inf))

    def why_illegal(self, site: int, choice: Choice) -> str:
        operator = make_operator(choice.operator)
        if operator not in self.operators:
            return f"the operators of this space are {', '.join(map(str, self.operators))}"
        if choice != choice.canonical():
            return f"write it {choice.canonical()}"
        if choice.sparsity.scheme not in (*self.schemes, make_scheme("dense")):
            return f"the schemes of this space are dense, {', '.join(map(str, self.schemes))}"
        if (reason := self.refuses(site, operator, choice.sparsity.scheme)) is not None:
            return reason
        rates = [
            f"{other.sparsity.rate:g}"
            for other in self._choices[site]
            if other.operator == choice.operator and other.sparsity.scheme == choice.sparsity.scheme
        ]
        return f"rates that keep different groups here are {', '.join(rates) or 'none but 1'}"

    # Descriptions -----------------------------------------------------------------------------------------------

    def chain(self, candidate: Candidate) -> Chain:
        """The candidate's convolutions and the channel spaces between them.

        Raises:
            InvalidCandidate: the candidate is not of this space.
        """
        self.validate(candidate)
        operators = {str(operator): operator for operator in self.operators}
        filled = [(operators[choice.operator], choice.sparsity) for choice in candidate.choices]
        return build_chain(self.frame, self.sites, filled)

    def layers(self, candidate: Candidate) -> tuple[Layer, ...]:
        """The layers of the shrunken network in execution order, with the widths that `extract` gives.

        Raises:
            InvalidCandidate: the candidate is not of this space.
        """
        return self.chain(candidate).layers

    def labels(self, candidate: Candidate) -> list[str]:
        """One graph label a site, `stage:operator|scheme|rate`."""
        return [f"{site.stage}:{choice}" for site, choice in zip(self.sites, candidate.choices, strict=True)]

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of sites that feed each other: each into the next, and around every site with a shortcut."""
        direct = [(i, i + 1) for i in range(len(self.sites) - 1)]
        around = [(i - 1, i + 1) for i in range(1, len(self.sites) - 1) if self.sites[i].shortcut]
        return tuple(sorted(direct + around))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "frame": asdict(self.frame),
            "sites": [site.to_dict() for site in self.sites],
            "operators": [str(operator) for operator in self.operators],
            "schemes": [str(scheme) for scheme in self.schemes],
            "rates": list(self.rates),
            "reference": str(self.reference),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchSpace:
        """Inverse of `to_dict`.

        Raises:
            InvalidSpace: a field is missing, or a scheme or rate is not understood.
        """
        try:
            return cls(
                name=str(values["name"]),
                frame=Frame(**values["frame"]),
                sites=tuple(Site.from_dict(site) for site in values["sites"]),
                operators=tuple(make_operator(text) for text in values["operators"]),
                schemes=tuple(make_scheme(text) for text in values["schemes"]),
                rates=tuple(float(rate) for rate in values["rates"]),
                reference=make_operator(values["reference"]),
            )
        except KeyError as error:
            raise InvalidSpace(f"the description of a search space lacks {error}") from error
        except (TypeError, PruningError) as error:
            raise InvalidSpace(f"the description of a search space is not understood: {error}") from error


def _macs(layers: Iterable[Layer]) -> float:
    return sum(layer.macs for layer in layers)
