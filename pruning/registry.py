"""Named classes that live one a file in one package."""

import importlib
import pkgutil
from typing import ClassVar, Generic, Protocol, TypeVar

from pruning.errors import PruningError


class Named(Protocol):
    name: ClassVar[str]


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """Maps a name to its class; the modules of `package` are imported at the first look-up.

    A new entry is one new file whose class carries `@REGISTRY.add`; nothing lists it anywhere.
    """

    def __init__(self, package: str, kind: str, unknown: type[PruningError]) -> None:
        self._package = package
        self._kind = kind
        self._unknown = unknown
        self._entries: dict[str, type[T]] = {}
        self._loaded = False

    def add(self, entry: type[T]) -> type[T]:
        """Class decorator: files the class under its `name`."""
        if self._entries.setdefault(entry.name, entry) is not entry:
            raise RuntimeError(f"two {self._kind}s are called {entry.name!r}")
        return entry

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._load()
        return tuple(sorted(self._entries))

    def __getitem__(self, name: str) -> type[T]:
        self._load()
        if name not in self._entries:
            raise self._unknown(f"unknown {self._kind} {name!r}; known: {', '.join(self.names())}")
        return self._entries[name]

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        self._loaded = True
