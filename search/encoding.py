"""Candidates as tuples of integers inside the search, and as categorical parameters inside an Optuna study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

from search.errors import StudyMismatch
from supernet import Candidate, ChoiceSpace

Code = tuple[int, ...]
"""Index of the choice at every site, in the order of `space.choices(site)`."""


class Encoding:
    """The three forms of a candidate: `Candidate`, `Code`, and one Optuna parameter a site (`site_00`, ...)."""

    def __init__(self, space: ChoiceSpace) -> None:
        self.space = space
        self.choices = tuple(tuple(space.choices(site)) for site in range(len(space.site_names)))
        self.sizes = tuple(len(choices) for choices in self.choices)
        self.names = tuple(f"site_{site:02d}" for site in range(len(self.sizes)))
        self._texts = tuple(tuple(str(choice) for choice in choices) for choices in self.choices)
        self._indices = tuple({text: index for index, text in enumerate(texts)} for texts in self._texts)

    def distributions(self) -> dict[str, CategoricalDistribution]:
        """The categorical distribution of every site."""
        return {name: CategoricalDistribution(texts) for name, texts in zip(self.names, self._texts, strict=True)}

    def candidate(self, code: Code) -> Candidate:
        """The candidate behind a code."""
        return self.space.decode(code)

    def code(self, candidate: Candidate) -> Code:
        """The code of a candidate of this space."""
        return self.space.encode(candidate)

    def params(self, code: Code) -> dict[str, str]:
        """Optuna parameters of a code."""
        return {name: texts[index] for name, texts, index in zip(self.names, self._texts, code, strict=True)}

    def from_params(self, params: Mapping[str, Any]) -> Code | None:
        """The code of a trial's parameters, or None while a site has no value yet.

        Raises:
            StudyMismatch: a value is not a choice of this space.
        """
        if any(name not in params for name in self.names):
            return None
        code = []
        for name, indices in zip(self.names, self._indices, strict=True):
            if params[name] not in indices:
                raise StudyMismatch(
                    f"the study has {params[name]!r} at {name}, which this search space does not offer; "
                    "the study belongs to another space: start a new study, or search the old space"
                )
            code.append(indices[params[name]])
        return tuple(code)

    def draw(self, rng: np.random.Generator) -> Code:
        """One code, uniform over the whole space."""
        return tuple(int(index) for index in rng.integers(self.sizes))

    def mutate(self, code: Code, rng: np.random.Generator, sites: int) -> Code:
        """`code` with another choice at `sites` sites (fewer where the space has fewer free ones)."""
        free = [site for site, size in enumerate(self.sizes) if size > 1]
        changed = list(code)
        for site in rng.permutation(free)[:sites]:
            step = int(rng.integers(1, self.sizes[site]))
            changed[site] = (code[site] + step) % self.sizes[site]
        return tuple(changed)

    def neighbours(self, code: Code) -> Iterator[Code]:
        """All codes that differ from `code` at exactly one site."""
        for site, size in enumerate(self.sizes):
            for index in range(size):
                if index != code[site]:
                    yield (*code[:site], index, *code[site + 1 :])


def distance(a: Code, b: Code) -> int:
    """Number of sites at which two codes differ."""
    return sum(x != y for x, y in zip(a, b, strict=True))
