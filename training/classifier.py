"""Whether a network is a classifier of a dataset's pictures."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.errors import DataMismatch


def require_classifier(model: nn.Module, input_shape: Sequence[int], classes: int) -> None:
    """Raise unless `model` gives logits [N, classes] for pictures [N, *input_shape], in both modes.

    A copy is run, once in evaluation and once in training mode; torch's global random state is left as it was.

    Raises:
        DataMismatch: it cannot be run on such pictures, or gives something else.
    """
    private = copy.deepcopy(model)
    for mode, training, count in (("evaluation", False, 1), ("training", True, 2)):
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                outputs = private.train(training)(torch.zeros(count, *input_shape))
        except Exception as error:
            raise DataMismatch(
                f"{type(model).__name__} cannot be run on a picture of the dataset, {list(input_shape)}, in {mode} "
                f"mode: {error}. Choose the dataset that the network was made for, or change its first "
                "layers"
            ) from error
        if not isinstance(outputs, Tensor):
            raise DataMismatch(
                f"{type(model).__name__} gives a {type(outputs).__name__} in {mode} mode; one tensor of logits "
                f"[N, {classes}] is needed. Wrap it in a module whose forward returns the logits alone"
            )
        if list(outputs.shape) != [count, classes]:
            raise DataMismatch(
                f"{type(model).__name__} gives {list(outputs.shape)} for {count} picture(s) in {mode} mode; the "
                f"dataset has {classes} classes, so that [{count}, {classes}] is needed. Choose the dataset that the "
                "network was made for, or change its last layer"
            )
