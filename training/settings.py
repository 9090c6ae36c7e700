"""What settings of trainings and evaluations have in common: a value that cannot be is refused by its name."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args, get_type_hints

from training.errors import InvalidRecipe

_WORDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", type(None): "null"}


class Settings:
    """Base of frozen dataclasses whose fields are numbers and words.

    Raises:
        InvalidRecipe: a value is not of its field's type. For a number a whole number will do, true and false will not.
    """

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for field in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            allowed = get_args(types[field.name]) or (types[field.name],)
            self._require(
                field.name,
                any(_is_one(getattr(self, field.name), kind) for kind in allowed),
                " or ".join(_WORDS[kind] for kind in allowed),
            )

    def _require(self, field: str, fulfilled: bool, allowed: str) -> None:
        if not fulfilled:
            raise InvalidRecipe(f"{field} must be {allowed}, not {getattr(self, field)}")


def _is_one(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
