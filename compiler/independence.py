"""A network is compiled for one sample and run on each: that is right only if samples do not see one another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import Node as FxNode
from torch.utils._pytree import tree_leaves, tree_map

from compiler.errors import MixedSamples
from compiler.translation import path_of

TOLERANCE = 1e-3


def require_independent_samples(model: nn.Module, inputs: Sequence[Any], suspects: Sequence[FxNode]) -> None:
    """Compare two samples that go through `model` together with each of them alone.

    A difference counts if it is there in double precision too: rounding may decide which way a comparison goes. A
    network that does not run on two samples is refused only if there are suspects.

    Args:
        model: in evaluation mode.
        inputs: of one sample, the first axis being the batch.
        suspects: operators that may mix samples, as far as their form shows.

    Raises:
        MixedSamples: if results differ, or the batch is not the first axis of an output.
    """
    generator = torch.Generator().manual_seed(0)
    singles = [tree_map(lambda value: _other(value, generator), tuple(inputs)) for _ in range(2)]
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _single_operations():
        try:
            found = _difference(model, singles)
        except Exception as error:
            if not suspects:
                return
            raise MixedSamples(f"the network does not run on two samples ({error}). {_advice(suspects)}") from error
        if found and _remains_in_double(model, singles):
            raise MixedSamples(f"{found}. {_advice(suspects)}")


def _advice(suspects: Sequence[FxNode]) -> str:
    places = ", ".join(dict.fromkeys(f"{node.name} in {path_of(node) or '(top level)'}" for node in suspects[:5]))
    unseen = (
        "No operator shows by its form that it mixes them: look for tensors of different ranks that are broadcast, for "
        "products with the batch as an axis of a matrix, and for x.shape[0] used as a number"
    )
    return (
        "A compiled network runs one sample at a time, so that the first axis of every input and output has to be the "
        f"batch and samples must not mix. {f'Operators that could mix them: {places}' if suspects else unseen}"
    )


def _difference(model: nn.Module, singles: Sequence[Any], kind: torch.dtype | None = None) -> str | None:
    """What is different for two samples together, None if nothing is; computed in numbers of a kind, if one is given.

    What the network does to its inputs and buffers is done to copies.
    """

    def copied(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(kind, copy=True) if kind is not None and value.is_floating_point() else value.clone()

    held = itertools.chain(model.named_buffers(), () if kind is None else model.named_parameters())
    state = {name: copied(value) for name, value in held}

    def run(arguments: Any) -> list[Tensor]:
        results = functional_call(model, state, tree_map(copied, arguments))
        return [value for value in tree_leaves(results) if isinstance(value, Tensor)]

    batch = run(tree_map(lambda *pair: torch.cat(pair) if is_batch(pair[0]) else pair[0], *singles))
    for row, single in enumerate(singles):
        results = run(single)
        if len(results) != len(batch):
            return f"{len(results)} tensors are returned for one sample, {len(batch)} for two"
        for position, (alone, both) in enumerate(zip(results, batch, strict=True)):
            if both.shape != (2, *alone.shape[1:]) or alone.shape[:1] != (1,):
                shapes = f"{tuple(alone.shape)} for one sample and {tuple(both.shape)} for two"
                return f"output {position} has shape {shapes}"
            scale = float(alone.nan_to_num(0.0, 0.0, 0.0).abs().max())
            if not torch.allclose(both[row], alone[0], 0.0, TOLERANCE * max(scale, 1e-12), equal_nan=True):
                return f"output {position} of a sample depends on the other one"
    return None


def _remains_in_double(model: nn.Module, singles: Sequence[Any]) -> bool:
    """Whether samples differ in double precision; what holds single precision fast is taken at its word."""
    try:
        return _difference(model, singles, torch.float64) is not None
    except Exception:
        return True


@contextmanager
def _single_operations() -> Iterator[None]:
    """Without the one kernel for a whole transformer layer: whether it is taken depends on all masks of a batch."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _other(value: Any, generator: torch.Generator) -> Any:
    """Random numbers in place of an input; whole numbers are shuffled, since they may be indices."""
    if not is_batch(value):
        return value
    if value.is_floating_point():
        return torch.randn(value.shape, generator=generator).to(value)
    return value.reshape(-1)[torch.randperm(value.numel(), generator=generator)].reshape(value.shape)


def is_batch(value: Any) -> bool:
    """Whether an input is a tensor, the first axis being the batch."""
    return isinstance(value, Tensor) and value.ndim > 0
