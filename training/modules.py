"""Small facts about modules that several loops need."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter or buffer; the CPU if it has neither."""
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def preserved_modes(model: nn.Module) -> Iterator[None]:
    """Afterwards every module is in training or evaluation mode as it was before."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Within it, weights of convolutions lie in memory with the channels innermost, which saves a CPU a fifth or more
    of a training step; afterwards as before. Parameters stay the same objects, with the same values.

    Weights that share their memory with others, or lie in another order already, stay as they are.
    """
    weights = [weight for weight in chain(model.parameters(), model.buffers()) if weight.ndim == 4]
    users = Counter(weight.untyped_storage().data_ptr() for weight in chain(model.parameters(), model.buffers()))
    moved = [
        weight
        for weight in weights
        if weight.is_contiguous()
        and users[weight.untyped_storage().data_ptr()] == 1
        and weight.untyped_storage().nbytes() == weight.nbytes
    ]
    for weight in moved:
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for weight in moved:
            weight.data = weight.data.contiguous()


def computes_channels_last(model: nn.Module, images: Tensor) -> bool:
    """Whether a training step goes through with weights in that order. A network that asks for a *view* of activations
    across channels and places, where it could ask for a `reshape`, needs them in the usual order.

    Args:
        images: two of them, [2, C, H, W]; the model sees them in training mode, and is left as it was.
    """
    state = dict(model.named_parameters()) | {name: buffer.clone() for name, buffer in model.named_buffers()}
    with preserved_modes(model), channels_last(model), torch.random.fork_rng(), torch.no_grad():
        model.train()
        try:
            torch.func.functional_call(model, state, images)
        except RuntimeError:
            return False
    return True
