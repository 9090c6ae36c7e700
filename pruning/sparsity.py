"""Sparsity: a scheme and how much of the weight it removes."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pruning.errors import InvalidRate, InvalidScheme
from pruning.scheme import Scheme, check_rate, make_scheme


@dataclass(frozen=True, init=False)
class Sparsity:
    """(scheme, rate) of one weight; rate = weights before / weights after, 1 is dense.

    The scheme may be given as text. Raises InvalidRate for a rate that is not a finite number >= 1 and for
    dense at any other rate than 1.
    """

    scheme: Scheme
    rate: float

    def __init__(self, scheme: Scheme | str = "dense", rate: float = 1.0) -> None:
        scheme = make_scheme(scheme) if isinstance(scheme, str) else scheme
        check_rate(rate)
        if scheme.name == "dense" and rate != 1:
            raise InvalidRate(f"dense at rate {rate:g}: dense keeps every weight; use rate 1 or another scheme")
        object.__setattr__(self, "scheme", scheme)
        object.__setattr__(self, "rate", float(rate))

    @property
    def dense(self) -> bool:
        """Whether every weight is kept."""
        return self.rate == 1

    def canonical(self) -> "Sparsity":
        """The one form of equal sparsities: rate 1 is dense whatever the scheme."""
        return Sparsity() if self.dense else self

    def __str__(self) -> str:
        if self.scheme.name == "dense":
            return "dense"
        return f"{self.scheme}@{int(self.rate) if self.rate.is_integer() else self.rate}"

    @classmethod
    def parse(cls, text: str) -> "Sparsity":
        """Inverse of `str`: "block_punched(16x1)@5", "dense"."""
        scheme, at, rate = text.partition("@")
        if not at and scheme != "dense":
            raise InvalidScheme(f"{text!r} has no rate; write scheme@rate, such as filter@2")
        try:
            number = float(rate) if at else 1.0
        except ValueError as error:
            raise InvalidRate(f"{text!r}: {rate!r} is not a number; write scheme@rate, such as filter@2") from error
        return cls(scheme, number)

    def to_dict(self) -> dict[str, str | float]:
        """Plain values for JSON and table columns."""
        return {"scheme": str(self.scheme), "rate": self.rate}

    @classmethod
    def from_dict(cls, values: Mapping[str, str | float]) -> "Sparsity":
        """Inverse of `to_dict`."""
        return cls(str(values["scheme"]), float(values["rate"]))


def project(weight: Tensor, sparsity: Sparsity) -> Tensor:
    """Bool mask of the weight's shape; `weight * mask` is the nearest tensor that has this sparsity."""
    return sparsity.scheme.mask(weight, sparsity.rate)
