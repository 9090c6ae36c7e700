"""The identity: the site is left out, and the network is one site shallower."""

from __future__ import annotations

from dataclasses import dataclass

from supernet.operators.base import Conv, Operator, Place


@dataclass(frozen=True)
class Skip(Operator):
    """y = x."""

    name = "skip"

    def convs(self, place: Place) -> tuple[Conv, ...]:
        return ()

    def refuses(self, place: Place) -> str | None:
        return None if place.shortcut else "only a site with a shortcut can be left out"

    def filter_conv(self, place: Place) -> None:
        return None

    def channel_conv(self, place: Place) -> None:
        return None
