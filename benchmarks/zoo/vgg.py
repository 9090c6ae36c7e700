"""VGG with batch norm (Simonyan and Zisserman, 1409.1556, table 1)."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn

# convolutions a stage of the networks of 11, 13, 16 and 19 layers
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """Images [N, 3, size, size] to logits [N, classes]; `width` channels in the first stage, `hidden` features."""

    def __init__(
        self, depth: int = 16, classes: int = 1000, *, width: int = 64, hidden: int = 4096, size: int = 224
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for stage, count in enumerate(CONVOLUTIONS[depth]):
            outputs = width * min(2**stage, 8)
            for _ in range(count):
                layers.append(conv_bn(inputs, outputs, 3, activation=nn.ReLU))
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *(nn.Linear(inputs * (size // 32) ** 2, hidden), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits
