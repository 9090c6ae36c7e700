"""How units pass through the operations that are understood, one family a file; `load` finds them all."""

import importlib
import pkgutil


def load() -> None:
    """Files all rules; a further family is one more module here."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
