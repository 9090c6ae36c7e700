"""A recurrent keyword spotter of the size of those of Zhang et al. (1711.07128, section 3)."""

from __future__ import annotations

from torch import Tensor, nn


class GRUClassifier(nn.Module):
    """Frames [N, T, features] to logits [N, classes], from the last state of two recurrent layers."""

    def __init__(self, classes: int = 12, *, features: int = 40, hidden: int = 154, layers: int = 2) -> None:
        super().__init__()
        self.layers = nn.GRU(features, hidden, layers, batch_first=True)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.layers(x)
        logits: Tensor = self.classifier(states[:, -1])
        return logits
