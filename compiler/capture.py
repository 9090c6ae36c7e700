"""`torch.export` of a network to our graph."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import compiler.translations  # noqa: F401  (registers the operators)
from compiler.errors import CaptureFailed
from compiler.graph import Graph
from compiler.independence import is_batch, require_independent_samples
from compiler.translation import Capture

DECOMPOSITIONS = 3
"""Times that operators without a translation are replaced by simpler ones."""


def capture(model: nn.Module, example_inputs: Sequence[Tensor]) -> Graph:
    """The graph of `model` in evaluation mode; the module is left as it was.

    Args:
        model: any module that `torch.export` can trace.
        example_inputs: tensors [N, ...]; only N may differ later.

    Raises:
        CaptureFailed: if tracing fails.
        UnsupportedOperator: naming the node, its module and what is supported.
        InvalidWeights: if a weight is NaN or infinite.
        MixedSamples: if a sample's result depends on the others of its batch.
    """
    return Captured(model, example_inputs).graph()


class Captured:
    """A traced network: the graph with the weights that the module has now, however often it is asked for.

    Weights may be changed in place in between, not replaced. Arguments and errors are those of `capture`.
    """

    def __init__(self, model: nn.Module, example_inputs: Sequence[Tensor]) -> None:
        inputs = tree_map(lambda value: value[:1] if is_batch(value) else value, tuple(example_inputs))
        self._program = _exported(model, inputs)
        translation = Capture(self._program)
        translation.graph()
        with _evaluating(model):
            require_independent_samples(model, inputs, translation.mixing)

    def graph(self) -> Graph:
        """The graph of the module as it is now."""
        return Capture(self._program).graph()


def _exported(model: nn.Module, inputs: tuple[Any, ...]) -> torch.export.ExportedProgram:
    with _evaluating(model), torch.no_grad(), warnings.catch_warnings(), _without_stack_traces():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*(were|was) assigned during export.*")
        try:
            program = torch.export.export(model, inputs)
            if _writes_in_place(program):
                program = program.run_decompositions({})
            return _simplified(program)
        except Exception as error:
            raise CaptureFailed(
                f"torch.export could not trace {type(model).__name__}: {error}\n"
                "Make its forward free of data-dependent control flow, then try torch.export.export on it."
            ) from error


def _simplified(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program with operators that have no translation replaced by what torch says they consist of."""
    for _ in range(DECOMPOSITIONS):
        unknown = Capture(program).unknown()
        table: Any = torch.export.default_decompositions() if unknown else {}
        chosen = {target: table[target] for target in unknown if target in table}
        if not chosen:
            break
        program = program.run_decompositions(chosen)
    return program


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _without_stack_traces() -> Iterator[None]:
    """Spare the export the search for source lines, which nobody would see."""
    before = torch.fx.config.do_not_emit_stack_traces
    torch.fx.config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        torch.fx.config.do_not_emit_stack_traces = before


def _writes_in_place(program: torch.export.ExportedProgram) -> bool:
    """Whether an operator changes its argument; `run_decompositions` turns such ones into functions, at some cost."""
    schemas = [getattr(node.target, "_schema", None) for node in program.graph.nodes]
    return any(schema.is_mutable for schema in schemas if schema is not None)
