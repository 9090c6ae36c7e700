"""What a search sees of any space: sites with a list of legal choices each, and candidates as codes of integers."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from supernet.candidate import Candidate, Choice
from supernet.errors import InvalidCandidate


class Named(Protocol):
    """A site, as far as all spaces agree what that is."""

    @property
    def name(self) -> str: ...


class ChoiceSpace(ABC):
    """Candidates are one choice a site; what is illegal is in no list, so that it cannot be expressed."""

    name: str
    """For messages."""
    sites: Sequence[Named]

    @property
    @abstractmethod
    def _choices(self) -> tuple[tuple[Choice, ...], ...]:
        """The legal choices of each site: canonical, without two that keep the same groups, in a fixed order."""

    @property
    def site_names(self) -> tuple[str, ...]:
        """A name for each site, in order."""
        return tuple(site.name for site in self.sites)

    def choices(self, site: int) -> tuple[Choice, ...]:
        """The legal choices of a site: canonical, without two that keep the same groups, in a fixed order."""
        return self._choices[site]

    @abstractmethod
    def largest(self) -> Candidate:
        """The dense reference network."""

    @abstractmethod
    def smallest(self) -> Candidate:
        """The cheapest choice at every site."""

    @abstractmethod
    def labels(self, candidate: Candidate) -> list[str]:
        """One graph label a site."""

    @property
    @abstractmethod
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of sites that feed each other."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""

    @abstractmethod
    def why_illegal(self, site: int, choice: Choice) -> str:
        """The reason in words why the choice is not among those of the site."""

    @cached_property
    def _positions(self) -> tuple[dict[Choice, int], ...]:
        return tuple({choice: i for i, choice in enumerate(choices)} for choices in self._choices)

    @cached_property
    def _radices(self) -> NDArray[np.int64]:
        return np.array([len(choices) for choices in self._choices])

    @property
    def size(self) -> int:
        """The exact number of candidates."""
        return math.prod(len(choices) for choices in self._choices)

    def sample(self, rng: np.random.Generator) -> Candidate:
        """A candidate drawn uniformly from the space."""
        return self.decode(rng.integers(self._radices).tolist())

    def sample_near(self, end: Candidate, share: float, rng: np.random.Generator) -> Candidate:
        """A candidate that has the choice of `end` at each site with probability `share`, and else one drawn uniformly.

        Raises:
            InvalidCandidate: `end` is not of this space.
            ValueError: `share` is not in [0, 1].
        """
        if not 0 <= share <= 1:
            raise ValueError(f"the share of choices taken from a candidate lies in [0, 1], not {share}")
        drawn = rng.integers(self._radices)
        taken = rng.random(len(drawn)) < share
        return self.decode(np.where(taken, self.encode(end), drawn).tolist())

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
        if len(code) != len(self._choices):
            raise InvalidCandidate(f"space {self.name!r} has {len(self._choices)} sites, found {len(code)} indices")
        try:
            if min(code, default=0) < 0:
                raise IndexError
            return Candidate(tuple([choices[i] for choices, i in zip(self._choices, code, strict=True)]))
        except IndexError:
            raise InvalidCandidate(f"indices {tuple(code)}: the sites have {self._radices.tolist()} choices") from None

    def validate(self, candidate: Candidate) -> None:
        """Raises InvalidCandidate, with the reason, unless the candidate is of this space."""
        names = self.site_names
        if len(candidate.choices) != len(names):
            raise InvalidCandidate(
                f"space {self.name!r} has {len(names)} sites, the candidate {len(candidate.choices)} choices"
            )
        for site, (choice, legal) in enumerate(zip(candidate.choices, self._positions, strict=True)):
            if choice not in legal:
                raise InvalidCandidate(f"choice {choice} at site {names[site]!r}: {self.why_illegal(site, choice)}")

    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ between spaces that differ."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
