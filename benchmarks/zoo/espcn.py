"""ESPCN (Shi et al., 1609.05158, section 3.2): super-resolution by a sub-pixel convolution."""

from __future__ import annotations

from torch import Tensor, nn


class ESPCN(nn.Module):
    """Luminance [N, 1, H, W] to [N, 1, factor * H, factor * W]."""

    def __init__(self, factor: int = 3, *, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, width, 5, padding=2), nn.Tanh()),
            *(nn.Conv2d(width, width // 2, 3, padding=1), nn.Tanh()),
            *(nn.Conv2d(width // 2, factor**2, 3, padding=1), nn.PixelShuffle(factor)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y
