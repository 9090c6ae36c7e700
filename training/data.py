"""What a dataset is: three splits of labelled pictures, normalised and in memory."""

import zlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.errors import InvalidSplit


@dataclass(frozen=True)
class Normalisation:
    """How pixels in 0..255 become network inputs: (pixel / 255 - mean) / std, channel by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels [N, C, H, W] in 0..255 of any dtype -> a new float32 tensor [N, C, H, W]."""
        mean = torch.tensor(self.mean).view(1, -1, 1, 1)
        std = torch.tensor(self.std).view(1, -1, 1, 1)
        return pixels.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)


@dataclass(frozen=True, eq=False)
class Split:
    """Pictures with their labels.

    Args:
        images: [N, C, H, W], floating point, normalised.
        labels: [N], int64, class indices from 0.

    Raises:
        InvalidSplit: shapes, types or lengths do not fit, or there are no pictures.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or not self.images.is_floating_point():
            raise InvalidSplit(
                f"images must be floating point [N, C, H, W], not {self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64:
            raise InvalidSplit(f"labels must be int64 [N], not {self.labels.dtype} {list(self.labels.shape)}")
        if len(self.images) != len(self.labels) or not len(self.labels):
            raise InvalidSplit(
                f"{len(self.images)} images and {len(self.labels)} labels; as many of both are needed, at least one"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> dict[str, Any]:
        """Tells splits apart by their shape and their labels in order."""
        return {"shape": list(self.images.shape), "labels": zlib.crc32(self.labels.cpu().numpy().tobytes())}

    def subset(self, count: int) -> "Split":
        """So many of the pictures, or all if there are no more; always the same ones, drawn once and for all."""
        if count >= len(self):
            return self
        chosen = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:count].sort().values
        return Split(self.images[chosen], self.labels[chosen])

    def to(self, device: torch.device | str) -> "Split":
        """The same split on another device; without a copy if it is there already."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification task. The test split is for final reports: nothing is chosen by it.

    Args:
        classes: number of classes; labels are 0 .. classes - 1.
        normalisation: how the images were made from pixels; None if unknown.

    Raises:
        InvalidSplit: a label is outside the classes, or the splits' pictures differ in shape.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    normalisation: Normalisation | None = None

    def __post_init__(self) -> None:
        for name, split in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= self.classes:
                raise InvalidSplit(f"{self.name}: {name} labels reach from {low} to {high}, not 0..{self.classes - 1}")
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise InvalidSplit(
                    f"{self.name}: {name} pictures are {list(split.images.shape[1:])}, "
                    f"those for training {list(self.train.images.shape[1:])}"
                )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one picture."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width
