"""The list of datasets, and the way to load one."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from training.data import Dataset
from training.datasets.cifar10 import Cifar10
from training.datasets.digits import Digits
from training.datasets.fashion_mnist import FashionMnist
from training.datasets.source import Source
from training.errors import UnknownDataset

SOURCES: Mapping[str, Source] = MappingProxyType(
    {source.name: source for source in (Digits(), FashionMnist(), Cifar10())}
)


def dataset_names() -> tuple[str, ...]:
    """Names that `load_dataset` knows."""
    return tuple(SOURCES)


def load_dataset(name: str, root: Path | str = "data", *, validation: float | None = None, seed: int = 0) -> Dataset:
    """A dataset by name, in memory, normalised.

    Args:
        root: folder with the official files, and where they are downloaded to if they are not there.
        validation: share of the official training pictures held out for validation, class by class; None takes the
            dataset's own default.
        seed: which pictures are held out. The test split is always the same.

    Raises:
        UnknownDataset: nothing is called that.
        DataNotFound: files are missing and cannot be downloaded; names each place looked at.
        DataCorrupt: a file is truncated or damaged; names it.
        InvalidSplit: the validation share is not between 0 and 1.
    """
    if name not in SOURCES:
        raise UnknownDataset(name, SOURCES)
    return SOURCES[name].load(Path(root), validation, seed)
