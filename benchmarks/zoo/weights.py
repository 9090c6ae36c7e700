"""Random weights under which a network behaves numerically as a trained one."""

from __future__ import annotations

import torch
from torch import nn

from training import recalibrate_batch_norm

CALIBRATION_IMAGES = 4


def randomise(model: nn.Module, shape: tuple[int, ...], *, seed: int = 0) -> None:
    """Draw all parameters in place, then let the batch norms measure their statistics.

    Convolutions and linear layers are drawn as by He et al. (1502.01852), eq. 10; scales of batch norms from
    [0.5, 1.5], shifts from a normal of 0.2. Other layers stay as they are.

    Args:
        shape: of one input without the batch dimension.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                fan_in = (module.weight[:, 0] if isinstance(module, nn.ConvTranspose2d) else module.weight[0]).numel()
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
    calibrate(model, shape, seed=seed)


def calibrate(model: nn.Module, shape: tuple[int, ...], *, seed: int = 0) -> None:
    """Measure the batch norms' statistics anew, as after pruning."""
    generator = torch.Generator().manual_seed(seed + 2)
    recalibrate_batch_norm(model, [torch.randn(CALIBRATION_IMAGES, *shape, generator=generator)])
