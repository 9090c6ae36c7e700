"""A model's graph, from `torch.export`."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from pruning.errors import CaptureFailed

Inputs = Tensor | Sequence[Any]


@dataclass(frozen=True)
class Graph:
    """The operations of one forward pass in evaluation mode, in order.

    `model` is a private copy, `tensors` maps a placeholder's name to the parameter or buffer it stands for.
    """

    model: nn.Module
    nodes: tuple[Node, ...]
    inputs: frozenset[str]
    tensors: dict[str, str]

    def tensor(self, path: str) -> Tensor:
        """The parameter or buffer at a path."""
        module, _, attribute = path.rpartition(".")
        found: Tensor = getattr(self.model.get_submodule(module), attribute)
        return found

    def owners(self, path: str) -> tuple[str, ...]:
        """Names of all modules that hold this parameter or buffer themselves."""
        return tuple(self._owners[id(self.tensor(path))])

    @cached_property
    def _owners(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for name, module in self.model.named_modules():
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                found.setdefault(id(tensor), []).append(name)
        return found


def as_inputs(example_inputs: Inputs) -> tuple[Any, ...]:
    """Positional arguments of a forward pass; one tensor stands for itself."""
    return (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)


def private_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode; whatever is done to it, `model` stays as it is."""
    return copy.deepcopy(model).eval()


def random_state(model: nn.Module) -> Any:
    """Context that leaves the random generators of the model's devices as they were."""
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    return torch.random.fork_rng(devices=list(devices))


def capture(model: nn.Module, example_inputs: Inputs) -> Graph:
    """The graph of `model(*example_inputs)`; raises CaptureFailed where `torch.export` cannot follow it."""
    private = private_copy(model)
    try:
        with random_state(model), torch.no_grad(), _plainly(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(private, copy.deepcopy(as_inputs(example_inputs)))
    except Exception as error:
        raise CaptureFailed(
            f"torch.export cannot follow {type(model).__name__}: {error}\n"
            "Channels can only be traced through a forward pass without data-dependent Python; rewrite it, or prune "
            "with schemes that remove no filters or channels."
        ) from error
    signature = program.graph_signature
    return Graph(
        model=private,
        nodes=tuple(program.graph.nodes),
        inputs=frozenset(signature.user_inputs),
        tensors={**signature.inputs_to_parameters, **signature.inputs_to_buffers},
    )


def module_of(node: Node) -> str:
    """Name of the module whose forward pass the operation is in."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(next(reversed(stack.values()))[0]) if stack else ""


def describe(node: Node) -> str:
    """The operation and the module it is in, for messages."""
    return f"{node.target} (node {node.name!r}, module {module_of(node) or 'the model itself'!r})"


@contextmanager
def _plainly() -> Iterator[None]:
    """Transformer layers as their single operations, not as one opaque kernel; no search for source lines."""
    fast, silent = torch.backends.mha.get_fastpath_enabled(), torch.fx.config.do_not_emit_stack_traces
    torch.backends.mha.set_fastpath_enabled(False)
    torch.fx.config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.fx.config.do_not_emit_stack_traces = silent
