"""Scheme: a partition of a weight tensor into groups that live or die together."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from pruning.errors import InvalidRate, InvalidScheme, NonFiniteWeights, UnknownScheme, UnsupportedShape
from pruning.registry import Registry
from pruning.selection import largest


def kept(n: int, rate: float) -> int:
    """Number of `n` groups that stay at `rate`: max(1, floor(n / rate + 1/2)), half up."""
    return max(1, math.floor(n / rate + 0.5))


def check_rate(rate: float) -> None:
    """Raises InvalidRate unless `rate` (weights before / weights after) is a finite number >= 1."""
    if not (math.isfinite(rate) and rate >= 1):
        raise InvalidRate(f"rate {rate!r}: a rate is weights before / weights after, a finite number >= 1; 1 is dense")


def check_finite(weight: Tensor) -> None:
    """Raises NonFiniteWeights if any weight is NaN or infinite."""
    if math.isfinite(float(weight.sum())):
        return
    count = int((~torch.isfinite(weight)).sum())  # 0 if only the sum overflowed
    if count:
        raise NonFiniteWeights(
            f"{count} of {weight.numel()} weights are NaN or infinite; prune the last good checkpoint instead"
        )


@dataclass(frozen=True)
class Scheme(ABC):
    """Sparsity structure of one weight: convolution [O, I, kh, kw] or linear [R, C].

    A subclass says which groups there are (`group_count`, `totals`, `expand`); the base derives the exact
    projection from that. A scheme with another rule than "the K best of the layer" (a quota a cell, templates)
    overrides `kept_groups`, `select` and `cells`.
    """

    name: ClassVar[str]
    removes_filters: ClassVar[bool] = False
    """Whole output filters go, so their batch norm and their consumers' inputs go with them."""
    removes_channels: ClassVar[bool] = False
    """Whole input channels go, so the producer's filters may go with them."""
    one_rate: ClassVar[bool] = False
    """The arguments say how much stays; there is no other rate."""

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Builds the scheme from the text between its parentheses ("" if there were none)."""
        if text:
            raise InvalidScheme(f"{cls.name}({text}): {cls.name} takes no arguments; write {cls.name!r}")
        return cls()

    def arguments(self) -> str:
        """The text between the parentheses; "" for none."""
        return ""

    def __str__(self) -> str:
        arguments = self.arguments()
        return f"{self.name}({arguments})" if arguments else self.name

    def supports(self, shape: Sequence[int]) -> str | None:
        """None, or the reason in words why a weight of `shape` cannot take this scheme."""
        if len(shape) not in (2, 4):
            return f"a weight is [O, I, kh, kw] or [R, C], this one has {len(shape)} dimensions"
        if 0 in shape:
            return "the weight is empty"
        return None

    @abstractmethod
    def group_count(self, shape: Sequence[int]) -> int:
        """Number of groups in a weight of `shape`."""

    @abstractmethod
    def totals(self, values: Tensor) -> Tensor:
        """Sum of the weight-shaped `values` over every group, [group_count] in their dtype."""

    @abstractmethod
    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        """Weight-shaped tensor that holds for every weight its group's entry of `groups` [group_count]."""

    def rates(self, menu: Iterable[float]) -> list[float]:
        """The rates above 1 of a menu, ascending; in their place its own, where a scheme has no other."""
        return sorted(rate for rate in set(menu) if rate > 1)

    def scores(self, weight: Tensor) -> Tensor:
        """Energy (sum of squares) of every group, float64 [group_count]."""
        return self.totals(_energy(weight))

    def kept_groups(self, shape: Sequence[int], rate: float) -> int:
        """Number of groups that stay."""
        return kept(self.group_count(shape), rate)

    def select(self, scores: Tensor, shape: Sequence[int], rate: float) -> Tensor:
        """Which groups stay, bool [group_count], given their `scores`."""
        return largest(scores, self.kept_groups(shape, rate))

    def cells(self, shape: Sequence[int]) -> Tensor | None:
        """Number of the cell of every group, int64 [group_count]; the best groups of each cell stay, always equally
        many. None where that is not the rule: templates, or one choice after another."""
        return torch.zeros(self.group_count(shape), dtype=torch.int64)

    def mask(self, weight: Tensor, rate: float) -> Tensor:
        """Bool mask of the weight's shape that keeps the most energy: `weight * mask` is the Euclidean projection.

        The count is exact, ties go to the lower index, rate 1 keeps everything. Raises UnsupportedShape,
        InvalidRate or NonFiniteWeights.
        """
        weight = weight.detach()
        self.check(weight.shape, rate)
        check_finite(weight)
        if rate == 1:
            return torch.ones_like(weight, dtype=torch.bool)
        return self.best(_energy(weight), rate)

    def best(self, energy: Tensor, rate: float) -> Tensor:
        """Bool mask that keeps the most of a weight-shaped, non-negative `energy`, for a legal shape and rate."""
        return self.expand(self.select(self.totals(energy), energy.shape, rate), energy.shape)

    def check(self, shape: Sequence[int], rate: float) -> None:
        """Raises UnsupportedShape or InvalidRate unless `mask` would accept the shape and the rate."""
        if (reason := self.supports(shape)) is not None:
            raise UnsupportedShape(f"{self} on a weight of shape {tuple(shape)}: {reason}")
        check_rate(rate)


def _energy(weight: Tensor) -> Tensor:
    wide = weight.to(torch.float64, copy=True)
    return wide.mul_(wide)


SCHEMES: Registry[Scheme] = Registry("pruning.schemes", "scheme", UnknownScheme)


def make_scheme(text: str) -> Scheme:
    """The scheme that prints as `text`, such as "filter" or "block_punched(16x1)".

    Raises UnknownScheme for an unknown name and InvalidScheme for malformed arguments.
    """
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", text)
    if match is None:
        raise InvalidScheme(f"{text!r} is not of the form name or name(arguments); known: {', '.join(scheme_names())}")
    return SCHEMES[match[1]].from_arguments(match[2] or "")


def scheme_names() -> tuple[str, ...]:
    """Names of all registered schemes, sorted."""
    return SCHEMES.names()
