"""A network is compiled for one sample and run on each: that is right only if samples do not see one another."""

from __future__ import annotations

from collections.abc import Sequence
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

    Args:
        model: in evaluation mode.
        inputs: of one sample, the first axis being the batch.
        suspects: operators that may mix samples, for the message.

    Raises:
        MixedSamples: if results differ, or the batch is not the first axis of an output.
    """
    generator = torch.Generator().manual_seed(0)
    singles = [tree_map(lambda value: _other(value, generator), tuple(inputs)) for _ in range(2)]
    together = tree_map(lambda *pair: torch.cat(pair) if is_batch(pair[0]) else pair[0], *singles)
    buffers = {name: value.clone() for name, value in model.named_buffers()}

    def run(arguments: tuple[Any, ...]) -> list[Tensor]:
        """The results; what the network does to its buffers is done to copies of them."""
        return [value for value in tree_leaves(functional_call(model, buffers, arguments)) if isinstance(value, Tensor)]

    places = ", ".join(dict.fromkeys(f"{node.name} in {path_of(node) or '(top level)'}" for node in suspects[:5]))
    advice = (
        f"A compiled network runs one sample at a time, so that the first axis of every input and output has to be the "
        f"batch and samples must not mix. Operators that could mix them: {places}"
    )
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            batch = run(together)
        except Exception as error:
            raise MixedSamples(f"the network does not run on two samples ({error}). {advice}") from error
        for row, single in enumerate(singles):
            for position, (alone, both) in enumerate(zip(run(single), batch, strict=True)):
                if both.shape != (2, *alone.shape[1:]) or alone.shape[:1] != (1,):
                    raise MixedSamples(
                        f"output {position} has shape {tuple(alone.shape)} for one sample and {tuple(both.shape)} for "
                        f"two. {advice}"
                    )
                scale = float(alone.nan_to_num(0.0, 0.0, 0.0).abs().max())
                if not torch.allclose(both[row], alone[0], 0.0, TOLERANCE * max(scale, 1e-12), equal_nan=True):
                    raise MixedSamples(f"output {position} of a sample depends on the other one. {advice}")


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
