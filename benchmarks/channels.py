"""torch-pruning's channels: the peer whose pruned network is a smaller dense one."""

from __future__ import annotations

import copy
import warnings

from torch import Tensor

from benchmarks.errors import PeerUnavailable
from benchmarks.zoo.cifar_resnet import CifarBlock, CifarResNet

ROUND_TO = 8
RATIOS = tuple(step / 50 for step in range(1, 50))


def slimmed(model: CifarResNet, image: Tensor, ratio: float) -> CifarResNet:
    """A copy that torch-pruning made smaller: global magnitude, widths in multiples of eight.

    Only the widths inside the blocks change: torch-pruning cannot follow the shortcuts, which pad channels, and takes
    the network apart where it tries.

    Raises:
        PeerUnavailable: if torch-pruning is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise PeerUnavailable("torch-pruning is not installed; pip install torch-pruning") from error
    model = copy.deepcopy(model)
    coupled = [model.stem[0], *(block.second[0] for block in _blocks(model)), model.classifier]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_pruning.pruner.MagnitudePruner(
            model,
            image,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            global_pruning=True,
            pruning_ratio=ratio,
            round_to=ROUND_TO,
            ignored_layers=coupled,
        ).step()
    return model


def widths(model: CifarResNet) -> tuple[int, ...]:
    """Filters of the first convolution of every block."""
    return tuple(len(block.first[0].get_parameter("weight")) for block in _blocks(model))


def candidates(model: CifarResNet, image: Tensor) -> dict[float, CifarResNet]:
    """The lowest ratio of every different network that torch-pruning makes, and that network."""
    found: dict[tuple[int, ...], tuple[float, CifarResNet]] = {}
    for ratio in RATIOS:
        slim = slimmed(model, image, ratio)
        found.setdefault(widths(slim), (ratio, slim))
    return dict(found.values())


def _blocks(model: CifarResNet) -> list[CifarBlock]:
    return [block for block in model.blocks if isinstance(block, CifarBlock)]
