"""Batch norm statistics measured anew, as every pruned network needs before it is scored."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.batching import batches
from training.data import Dataset
from training.errors import RecalibrationFailed
from training.modules import device_of, preserved_modes
from training.recipe import Recipe

Buffers = tuple[Tensor, Tensor, Tensor]
BATCHES = 64
"""More do not change the accuracy; a small training split has fewer."""


def recalibrate_as_trained(model: nn.Module, data: Dataset, recipe: Recipe, *, seed: int = 0) -> None:
    """`recalibrate_batch_norm` on up to 64 batches of training pictures, cut and augmented as the recipe trains.

    A network that was trained with augmentation and gets the statistics of clean pictures loses up to 3 points.

    Args:
        seed: of the pictures' order and of their augmentation.

    Raises:
        RecalibrationFailed: the statistics are not finite; the old statistics are still there.
    """
    generator = Generator().manual_seed(seed)
    passes = batches(data.train, recipe.batch_size, generator=generator, augment=recipe.augment)
    recalibrate_batch_norm(model, (images for images, _ in islice(passes, BATCHES)))


def recalibrate_batch_norm(model: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Replace the running statistics of every batch norm by the averages over some batches.

    The old statistics are forgotten. Only the batch norm layers run in training mode, with cumulative averaging:
    after n batches the running mean is the mean of the n batch means, the running variance that of the n unbiased
    batch variances. Nothing else changes: no parameter, no mode, no random number. A model without batch norm is
    left alone and reads no input.

    Args:
        inputs: batches [B, C, H, W] of training pictures, augmented as in training (see `recalibrate_as_trained`).

    Raises:
        RecalibrationFailed: there was no batch, or the statistics are not finite; the old statistics are still there.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not layers:
        return
    before = [_buffers(layer) for layer in layers]
    momenta = [layer.momentum for layer in layers]
    saved = [tuple(buffer.clone() for buffer in buffers) for buffers in before]
    try:
        with preserved_modes(model), torch.no_grad():
            model.eval()
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None
                layer.training = True
            _measure(model, inputs)
            _check(model, layers)
    except BaseException:
        for buffers, old in zip(before, saved, strict=True):
            for buffer, value in zip(buffers, old, strict=True):
                buffer.copy_(value)
        raise
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _measure(model: nn.Module, inputs: Iterable[Tensor]) -> None:
    device = device_of(model)
    seen = 0
    for batch in inputs:
        model(batch.to(device))
        seen += 1
    if not seen:
        raise RecalibrationFailed("no batch was given; recalibration needs at least one")


def _check(model: nn.Module, layers: list[_BatchNorm]) -> None:
    names = {module: name for name, module in model.named_modules()}
    for layer in layers:
        mean, variance, _ = _buffers(layer)
        if not (mean.isfinite().all() and variance.isfinite().all()):
            raise RecalibrationFailed(
                f"the statistics at batch norm {names[layer]!r} are not finite; look for non-finite weights or inputs"
            )


def _buffers(layer: _BatchNorm) -> Buffers:
    mean, variance, count = layer.running_mean, layer.running_var, layer.num_batches_tracked
    assert mean is not None
    assert variance is not None
    assert count is not None
    return mean, variance, count
