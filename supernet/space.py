"""The search space: which choices each site has, and how candidates are drawn, changed and described."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruning import PruningError, Scheme, make_scheme
from supernet.candidate import Candidate, Choice
from supernet.chain import Chain, Frame, build_chain
from supernet.errors import InvalidCandidate, InvalidSpace, NoFeasibleOperator
from supernet.layer import Layer
from supernet.legality import legal_choices, refuses
from supernet.operators import Operator, make_operator
from supernet.site import Site


@dataclass(frozen=True)
class SearchSpace:
    """Sites, and the operators, schemes and rates that may fill them.

    Attributes:
        operators: in the order in which `choices` lists them.
        rates: the menu of every scheme; 1 is dense, which is always there.
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

    @cached_property
    def _positions(self) -> tuple[dict[Choice, int], ...]:
        return tuple({choice: i for i, choice in enumerate(choices)} for choices in self._choices)

    @cached_property
    def _radices(self) -> NDArray[np.int64]:
        return np.array([len(choices) for choices in self._choices])

    def choices(self, site: int) -> tuple[Choice, ...]:
        """The legal choices of a site: canonical, without two that keep the same groups, in a fixed order."""
        return self._choices[site]

    @property
    def size(self) -> int:
        """The exact number of candidates."""
        return math.prod(len(choices) for choices in self._choices)

    def refuses(self, site: int, operator: Operator, scheme: Scheme) -> str | None:
        """None, or the reason in words why the operator cannot have the scheme at the site."""
        return refuses(self.sites, site, operator, scheme)

    # Candidates -------------------------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Candidate:
        """A candidate drawn uniformly from the space."""
        return self.decode(rng.integers(self._radices).tolist())

    def mutate(self, candidate: Candidate, rng: np.random.Generator, *, sites: int = 1) -> Candidate:
        """The candidate with another choice, drawn uniformly, at exactly `sites` random sites.

        Raises:
            InvalidCandidate: the candidate is not of this space.
            ValueError: fewer than `sites` sites have more than one choice.
        """
        code = list(self.encode(candidate))
        movable = np.flatnonzero(self._radices > 1)
        if not 1 <= sites <= len(movable):
            raise ValueError(f"between 1 and {len(movable)} sites of space {self.name!r} can change, asked for {sites}")
        for site in rng.choice(movable, size=sites, replace=False):
            step = int(rng.integers(1, self._radices[site]))
            code[site] = (code[site] + step) % int(self._radices[site])
        return self.decode(code)

    def neighbours(self, candidate: Candidate) -> Iterator[Candidate]:
        """Every candidate that differs at exactly one site, in a fixed order."""
        code = self.encode(candidate)
        for site, choices in enumerate(self._choices):
            for i in range(len(choices)):
                if i != code[site]:
                    yield self.decode((*code[:site], i, *code[site + 1 :]))

    def largest(self) -> Candidate:
        """The dense reference network: the reference operator at every site."""
        return Candidate((Choice(str(self.reference)),) * len(self.sites))

    def smallest(self, *, max_rate: float = math.inf) -> Candidate:
        """The cheapest choice at every site: fewest multiply-accumulates left while the others are as in `largest`.

        Args:
            max_rate: choices of a higher rate are left out.
        """
        largest = self.largest().choices
        picked = []
        for site, choices in enumerate(self._choices):
            allowed = [choice for choice in choices if choice.sparsity.rate <= max_rate]
            around = (Candidate((*largest[:site], choice, *largest[site + 1 :])) for choice in allowed)
            costs = [sum(layer.macs for layer in self.layers(candidate)) for candidate in around]
            picked.append(allowed[int(np.argmin(costs))])
        return Candidate(tuple(picked))

    def encode(self, candidate: Candidate) -> tuple[int, ...]:
        """Index of each choice within `choices(site)`.

        Raises:
            InvalidCandidate: the candidate is not of this space.
        """
        try:
            return tuple(
                positions[choice] for positions, choice in zip(self._positions, candidate.choices, strict=True)
            )
        except (KeyError, ValueError):
            self.validate(candidate)
            raise

    def decode(self, code: Sequence[int]) -> Candidate:
        """Inverse of `encode`.

        Raises:
            InvalidCandidate: wrong length, or an index that the site does not have.
        """
        if len(code) != len(self.sites):
            raise InvalidCandidate(f"space {self.name!r} has {len(self.sites)} sites, found {len(code)} indices")
        try:
            return Candidate(tuple([choices[i] for choices, i in zip(self._choices, code, strict=True)]))
        except IndexError:
            raise InvalidCandidate(f"indices {tuple(code)}: the sites have {self._radices.tolist()} choices") from None

    def validate(self, candidate: Candidate) -> None:
        """Raises InvalidCandidate, with the reason, unless the candidate is of this space."""
        if len(candidate.choices) != len(self.sites):
            raise InvalidCandidate(
                f"space {self.name!r} has {len(self.sites)} sites, the candidate {len(candidate.choices)} choices"
            )
        for index, (site, choice, legal) in enumerate(zip(self.sites, candidate.choices, self._positions, strict=True)):
            if choice not in legal:
                raise InvalidCandidate(f"choice {choice} at site {site.name!r}: {self._why_illegal(index, choice)}")

    def _why_illegal(self, index: int, choice: Choice) -> str:
        operator = make_operator(choice.operator)
        if operator not in self.operators:
            return f"the operators of this space are {', '.join(map(str, self.operators))}"
        if choice != choice.canonical():
            return f"write it {choice.canonical()}"
        if choice.sparsity.scheme not in (*self.schemes, make_scheme("dense")):
            return f"the schemes of this space are dense, {', '.join(map(str, self.schemes))}"
        if (reason := self.refuses(index, operator, choice.sparsity.scheme)) is not None:
            return reason
        rates = [
            f"{other.sparsity.rate:g}"
            for other in self._choices[index]
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

    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ between spaces that differ."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
