"""One operation of a graph, as the rules for operations see it."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor
from torch.fx import Node

from pruning.dependency.record import Record, Result
from pruning.dependency.values import Value


class CannotFollow(Exception):
    """Units cannot be followed through this use of an operation; says why."""


class Call:
    """An operation with its arguments by name; `record` is where its rule notes what it finds out."""

    def __init__(self, record: Record, node: Node) -> None:
        self.record = record
        self.node = node
        self.arguments: dict[str, Any] = {}
        for position, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
            given = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            absent = position >= len(node.args) and argument.name not in node.kwargs
            self.arguments[argument.name] = argument.default_value if absent else given

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(self.node.meta["val"].shape)

    def value(self, name: str) -> Value:
        """The value that is passed as `name`."""
        return self.value_of(self[name])

    def value_of(self, argument: object) -> Value:
        """The value of an argument; a parameter or buffer becomes one."""
        if isinstance(argument, Node):
            value = self.record.values.get(argument)
            if isinstance(value, Value):
                return value
            if argument.name in self.record.graph.tensors:
                name = self.record.graph.tensors[argument.name]
                return self.record.enter(name, self.record.graph.tensor(name).detach().cpu().double())
        raise CannotFollow(f"{argument} is not a tensor whose units are known")

    def tensor(self, name: str) -> str | None:
        """Path of the parameter or buffer that is passed as `name`, None if none is."""
        argument = self[name]
        if argument is None:
            return None
        if isinstance(argument, Node) and argument.name in self.record.graph.tensors:
            return self.record.graph.tensors[argument.name]
        raise CannotFollow(f"its {name} is computed from other tensors")

    def weight(self) -> str:
        """Path of the weight."""
        path = self.tensor("weight")
        if path is None:
            raise CannotFollow("it has no weight")
        return path

    def read(self, path: str | None) -> Tensor | None:
        """What a parameter or buffer holds."""
        return None if path is None else self.record.graph.tensor(path).detach().cpu()


Rule = Callable[[Call], Result]
RULES: dict[Any, Rule] = {}
"""By operation: the units of its result. A rule raises CannotFollow for uses that it does not know."""
VIEWS: set[Any] = set()
"""Operations whose result may share memory with their first argument."""

R = TypeVar("R", bound=Rule)


def rule(*operations: Any, view: bool = False) -> Callable[[R], R]:
    """Decorator that files a rule under its operations."""

    def add(function: R) -> R:
        RULES.update(dict.fromkeys(operations, function))
        if view:
            VIEWS.update(operations)
        return function

    return add
