"""A model's graph, from `torch.export`."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
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

    def owner(self, node: Node) -> str | None:
        """Name of the one module that has the parameter or buffer of this placeholder, None if it is not one alone."""
        if node.name not in self.tensors:
            return None
        tensor = self._tensor(self.tensors[node.name])
        owners = [
            name
            for name, module in self.model.named_modules()
            if any(tensor is other for other in (*module.parameters(False), *module.buffers(False)))
        ]
        return owners[0] if len(owners) == 1 else None

    def _tensor(self, path: str) -> object:
        module, _, attribute = path.rpartition(".")
        return getattr(self.model.get_submodule(module), attribute)


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
        with random_state(model), torch.no_grad():
            program = torch.export.export(private, as_inputs(example_inputs))
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


def describe(node: Node) -> str:
    """The operation and the module it is in, for messages."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()))[0] if stack else ""
    return f"{node.target} (node {node.name!r}, module {path or 'the model itself'!r})"
