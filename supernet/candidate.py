"""What the search proposes: one choice a site."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from pruning import PruningError, Sparsity
from supernet.errors import InvalidCandidate, InvalidChoice, UnknownOperator
from supernet.operators import make_operator


@dataclass(frozen=True)
class Choice:
    """An operator and the sparsity of its weights; as text `conv3x3|block_punched(16x1)|5`."""

    operator: str
    sparsity: Sparsity = field(default_factory=Sparsity)

    def canonical(self) -> Choice:
        """The one form among equal choices: rate 1 is dense, and `skip` has no weights to prune."""
        return Choice(self.operator, Sparsity() if self.operator == "skip" else self.sparsity.canonical())

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Inverse of `str`, in canonical form.

        Raises:
            InvalidChoice: the text does not have three parts, or one of them is not understood.
        """
        parts = text.split("|")
        if len(parts) != 3:
            raise InvalidChoice(f"a choice is written operator|scheme|rate, found {text!r}")
        operator, scheme, rate = parts
        try:
            return cls(str(make_operator(operator)), Sparsity(scheme, float(rate))).canonical()
        except (UnknownOperator, PruningError, ValueError) as error:
            raise InvalidChoice(f"choice {text!r}: {error}") from error

    def __str__(self) -> str:
        rate = self.sparsity.rate
        return f"{self.operator}|{self.sparsity.scheme}|{int(rate) if rate.is_integer() else rate}"


@dataclass(frozen=True)
class Candidate:
    """One choice for each site of a search space, in order."""

    choices: tuple[Choice, ...]

    def to_json(self) -> str:
        """A JSON list with the text of each choice."""
        return json.dumps([str(choice) for choice in self.choices])

    @classmethod
    def from_json(cls, text: str) -> Candidate:
        """Inverse of `to_json`.

        Raises:
            InvalidCandidate: the text is not a JSON list of choices.
        """
        try:
            texts = json.loads(text)
            if not isinstance(texts, list) or not all(isinstance(item, str) for item in texts):
                raise InvalidCandidate(f"a candidate is a JSON list of texts, found {text[:80]!r}")
            return cls(tuple(Choice.parse(item) for item in texts))
        except (json.JSONDecodeError, InvalidChoice) as error:
            raise InvalidCandidate(f"not a candidate: {error}") from error

    def __str__(self) -> str:
        return " ".join(str(choice) for choice in self.choices)
