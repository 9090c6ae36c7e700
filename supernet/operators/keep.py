"""The layer that a network of the user's own has at a site."""

from __future__ import annotations

from dataclasses import dataclass

from supernet.operators.base import Conv, Operator, Place


@dataclass(frozen=True)
class Keep(Operator):
    """No replacement; only a `ModelSpace` has layers to keep."""

    name = "keep"

    def convs(self, place: Place) -> tuple[Conv, ...]:
        return ()

    def refuses(self, place: Place) -> str | None:
        return "there is no layer to keep in a network that is built from operators"
