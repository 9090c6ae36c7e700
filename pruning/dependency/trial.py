"""Tries a removal on a copy of the model, and says what stands in its way."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pruning.dependency.components import distinct
from pruning.dependency.graph import capture, describe, module_of, private_copy, random_state
from pruning.dependency.record import Record
from pruning.dependency.removal import removal
from pruning.dependency.values import Value
from pruning.errors import CaptureFailed, ShrinkRefused

TOLERANCE = 1e-5


def refuse_pinned(record: Record, removed: Tensor) -> None:
    """Raises ShrinkRefused if sets that are to go (bool [record.size]) meet an operation that needs them all."""
    for pin in record.pins:
        count = int(removed[distinct(record.sets(pin.ids))].sum())
        if count:
            raise ShrinkRefused(
                f"{count} channels have no influence and could go, but they meet {pin.reason}. Leave the layers around "
                "it dense, or replace the operation. The model is unchanged."
            )


def attempt(model: nn.Module, record: Record, removed: Tensor, inputs: tuple[Any, ...]) -> None:
    """Removes on a copy; raises ShrinkRefused if the copy fails, or if its outputs differ by more than TOLERANCE."""
    original, smaller = private_copy(model), private_copy(model)
    removal(record, removed).apply(smaller)
    follower = _Follower(smaller)
    with random_state(model), torch.no_grad():
        for arguments in (inputs, _noise(inputs)):
            torch.manual_seed(0)
            expected = original(*copy.deepcopy(arguments))
            torch.manual_seed(0)
            try:
                with follower:
                    found = smaller(*copy.deepcopy(arguments))
            except Exception as error:
                node, place = follower.place(record)
                raise ShrinkRefused(
                    f"the forward pass fails with fewer channels at {place}: {error}. {_suspect(record, node)}The "
                    "model is unchanged.",
                    node,
                ) from error
            _compare(expected, found, smaller, record, removed, inputs)


def _suspect(record: Record, name: str | None) -> str:
    """The operation before the one that failed which may hold a number of channels."""
    order = [node.name for node in record.graph.nodes]
    end = order.index(name) if name in order else len(order)
    before = [node for node in record.counting if order.index(node.name) <= end]
    return f"Does the code hold a channel count as a number for {describe(before[-1])}? " if before else ""


def _noise(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inputs of the same shapes, with floating-point numbers drawn at random: zeros would hide a difference."""
    generator = torch.Generator().manual_seed(0)

    def drawn(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return torch.randn(value.shape, generator=generator).to(value)
        return value

    return pytree.tree_map(drawn, inputs)  # type: ignore[no-any-return]


def _compare(
    expected: Any, found: Any, smaller: nn.Module, record: Record, removed: Tensor, inputs: tuple[Any, ...]
) -> None:
    for a, b in zip(pytree.tree_leaves(expected), pytree.tree_leaves(found), strict=True):
        if isinstance(a, Tensor):
            a, b = a.double(), b.double()
            limit = TOLERANCE * max(1.0, float(a.nan_to_num(0, 0, 0).abs().amax())) if a.numel() else 0.0
            if a.shape != b.shape or not torch.allclose(a, b, rtol=0, atol=limit, equal_nan=True):
                node, place = _first_difference(smaller, record, removed, inputs)
                raise ShrinkRefused(
                    f"without the channels that seem to have no influence the outputs change: shape {tuple(a.shape)} "
                    f"to {tuple(b.shape)}, or values by more than {limit:.1e}; it starts at {place}. "
                    "The model is unchanged.",
                    node,
                )


def _first_difference(
    smaller: nn.Module, record: Record, removed: Tensor, inputs: tuple[Any, ...]
) -> tuple[str | None, str]:
    """The first operation whose result has another shape than the units that are left, and a description of it."""
    try:
        nodes = capture(smaller, inputs).nodes
    except CaptureFailed as error:
        return None, str(error)
    for node, other in zip(record.graph.nodes, nodes, strict=False):
        value, example = record.values.get(node), other.meta.get("val")
        if isinstance(value, Value) and isinstance(example, Tensor) and value.shape[1:] != ():
            gone = removed[record.sets(value.ids)]
            left = tuple(
                int((~gone.movedim(axis, 0).flatten(1).all(1)).sum()) if value.varies(axis) else size
                for axis, size in enumerate(value.shape)
            )
            if node.target != other.target or left != tuple(example.shape):
                return node.name, f"{describe(node)}, which gives {tuple(example.shape)} where {left} is left"
    return None, "an operation that gives as many channels as are left, but others"


class _Follower(TorchFunctionMode):
    """Remembers in which module, and how often there, the last function was called."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._names = {module: name for name, module in model.named_modules()}
        self._calls: Counter[tuple[str, str]] = Counter()
        self._last = ("", "")
        self._stack: list[str] = [""]
        for module in model.modules():
            module.register_forward_pre_hook(self._enter, prepend=True)
            module.register_forward_hook(self._leave)

    def place(self, record: Record) -> tuple[str | None, str]:
        """Name and description of the graph's operation that was called last."""
        module, function = self._last
        nodes = [
            node
            for node in record.graph.nodes
            if node.op == "call_function" and module_of(node) == module and function in str(node.target)
        ]
        nth = min(self._calls[self._last], len(nodes)) - 1
        if nodes:
            return nodes[nth].name, describe(nodes[nth])
        return None, f"{function!r} in module {module or 'the model itself'!r}"

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._stack.append(self._names[module])

    def _leave(self, module: nn.Module, _: Any, __: Any) -> None:
        self._stack.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._last = (self._stack[-1], getattr(func, "__name__", str(func)).strip("_"))
        self._calls[self._last] += 1
        return func(*args, **(kwargs or {}))
