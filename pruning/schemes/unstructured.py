"""Unstructured: any weight may go. The accuracy reference, little speed."""

from dataclasses import dataclass
from typing import ClassVar

from pruning.scheme import SCHEMES
from pruning.schemes.weights import WeightScheme


@SCHEMES.add
@dataclass(frozen=True)
class Unstructured(WeightScheme):
    """Keeps the weights of largest magnitude."""

    name: ClassVar[str] = "unstructured"
