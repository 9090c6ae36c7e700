"""The operators that can fill a site, by name."""

from __future__ import annotations

import re

from supernet.errors import UnknownOperator
from supernet.operators.base import Conv, Operator, Place
from supernet.operators.conv1x1 import Conv1x1
from supernet.operators.conv3x3 import Conv3x3
from supernet.operators.dw3x3_pw import Dw3x3Pw
from supernet.operators.keep import Keep
from supernet.operators.pw_dw3x3_pw import PwDw3x3Pw
from supernet.operators.skip import Skip

__all__ = ["Conv", "Operator", "Place", "make_operator", "operator_names"]

_KINDS: tuple[type[Operator], ...] = (Conv1x1, Conv3x3, Dw3x3Pw, Keep, PwDw3x3Pw, Skip)
_OPERATORS: dict[str, type[Operator]] = {kind.name: kind for kind in _KINDS}


def operator_names() -> tuple[str, ...]:
    """The registered names; those with an argument are written `name(argument)`."""
    return tuple(_OPERATORS)


def make_operator(text: str) -> Operator:
    """The operator of a text such as `conv3x3` or `pw_dw3x3_pw(6)`.

    Raises:
        UnknownOperator: the name is not registered, or its argument is missing or not understood.
    """
    match = re.fullmatch(r"(\w+)(?:\((\d+)\))?", text)
    if match is None or match[1] not in _OPERATORS:
        raise UnknownOperator(f"operator {text!r} is unknown; there are {', '.join(_OPERATORS)}")
    return _OPERATORS[match[1]].from_argument(None if match[2] is None else int(match[2]))
