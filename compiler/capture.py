"""`torch.export` of a network to our graph."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

import compiler.translations  # noqa: F401  (registers the operators)
from compiler.errors import CaptureFailed
from compiler.graph import Graph
from compiler.translation import Capture


def capture(model: nn.Module, example_inputs: Sequence[Tensor]) -> Graph:
    """The graph of `model` in evaluation mode; the module is left as it was.

    Args:
        model: any module that `torch.export` can trace.
        example_inputs: tensors [N, C, H, W] or [N, F]; only N may differ later.

    Raises:
        CaptureFailed: if tracing fails.
        UnsupportedOperator: naming the node, its module and what is supported.
        InvalidWeights: if a weight is NaN or infinite.
    """
    with _evaluating(model), warnings.catch_warnings(), _without_stack_traces():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        try:
            program = torch.export.export(model, tuple(example_inputs))
            if _writes_in_place(program):
                program = program.run_decompositions({})
        except Exception as error:
            raise CaptureFailed(
                f"torch.export could not trace {type(model).__name__}: {error}\n"
                "Make its forward free of data-dependent control flow, then try torch.export.export on it."
            ) from error
    return Capture(program).graph()


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
