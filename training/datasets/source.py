"""Where a dataset comes from, and how its training pictures are divided."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from training.data import Dataset, Normalisation, Split
from training.errors import InvalidSplit


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures as they are on disk: pixels [N, C, H, W] in 0..255 and labels [N], int64."""

    pixels: Tensor
    labels: Tensor


class Source(ABC):
    """One public dataset: reads (and, where needed, downloads) its official files."""

    name: ClassVar[str]
    classes: ClassVar[int]
    normalisation: ClassVar[Normalisation]
    validation: ClassVar[float]
    """Share of the training pictures held out when nobody says otherwise."""

    @abstractmethod
    def read(self, root: Path) -> tuple[Pictures, Pictures]:
        """The training and the test pictures.

        Raises:
            DataNotFound: files are missing and cannot be downloaded.
            DataCorrupt: a file is not what it should be.
        """

    def load(self, root: Path, validation: float | None, seed: int) -> Dataset:
        """The dataset with a validation split taken from its training pictures, class by class.

        Raises:
            InvalidSplit: the share is not between 0 and 1, or leaves one of the splits empty.
        """
        share = self.validation if validation is None else validation
        if not 0 < share < 1:
            raise InvalidSplit(f"the validation share must lie between 0 and 1, not {share}")
        known, test = self.read(root)
        train, held_out = stratified(known.labels, share, seed)
        return Dataset(
            name=self.name,
            train=self._split(known, train),
            validation=self._split(known, held_out),
            test=self._split(test, torch.arange(len(test.labels))),
            classes=self.classes,
            normalisation=self.normalisation,
        )

    def _split(self, pictures: Pictures, chosen: Tensor) -> Split:
        return Split(self.normalisation(pictures.pixels[chosen]), pictures.labels[chosen])


def stratified(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices [N - M] and [M] that divide labels [N] so that of every class the share, rounded, is in the second part.

    Both are ascending; the same seed gives the same division.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    second = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        second[members[: int(share * len(members) + 0.5)]] = True
    return (~second).nonzero().flatten(), second.nonzero().flatten()
