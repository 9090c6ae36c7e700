"""Plans that name layers by patterns."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from pruning.errors import UnknownModule
from pruning.sparsity import Sparsity

SIGNS = frozenset("*?[")
"""What makes a name a pattern, as in file names; * stands for any letters, dots too."""


def by_name(model: nn.Module, plan: Mapping[str, Sparsity]) -> dict[str, Sparsity]:
    """The plan with patterns replaced by the names of the convolutions and linear layers that they fit.

    A layer that is named as it is takes that sparsity, others the one of the first pattern that fits.

    Raises:
        UnknownModule: a name or pattern fits nothing; tells the nearest names.
    """
    modules = dict(model.named_modules())
    layers = [name for name, module in modules.items() if isinstance(module, (nn.Conv2d, nn.Linear))]
    named: dict[str, Sparsity] = {}
    for key, sparsity in plan.items():
        if SIGNS.isdisjoint(key):
            _require(key in modules, key, modules, model)
            named[key] = sparsity
        else:
            fitting = [name for name in layers if fnmatchcase(name, key)]
            _require(bool(fitting), key, layers, model)
            for name in fitting:
                if name not in plan:
                    named.setdefault(name, sparsity)
    return named


def _require(found: bool, key: str, names: Iterable[str], model: nn.Module) -> None:
    if not found:
        close = get_close_matches(key, names, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise UnknownModule(f"the plan names {key!r}, which {type(model).__name__} does not have{hint}")
