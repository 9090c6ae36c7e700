"""Fashion-MNIST (Xiao et al. 2017, 1708.07747)."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from training.data import Normalisation
from training.datasets.download import DownloadFailed, Remote
from training.datasets.idx import read_idx
from training.datasets.source import Pictures, Source
from training.errors import DataCorrupt, DataNotFound

BASE = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
OFFICIAL: Mapping[str, Remote] = MappingProxyType(
    {
        name: Remote(f"{BASE}/{name}.gz", md5)
        for name, md5 in (
            ("train-images-idx3-ubyte", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte", "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    }
)


class FashionMnist(Source):
    """70 000 grey pictures of clothes, 28x28; read from `root/fashion_mnist` or `root`, gzipped or plain."""

    name = "fashion_mnist"
    classes = 10
    normalisation = Normalisation(mean=(0.2860,), std=(0.3530,))
    validation = 0.1

    def __init__(self, files: Mapping[str, Remote] = OFFICIAL) -> None:
        self.files = files

    def read(self, root: Path) -> tuple[Pictures, Pictures]:
        return self._pictures(root, "train"), self._pictures(root, "t10k")

    def _pictures(self, root: Path, part: str) -> Pictures:
        images, _ = self._read(root, f"{part}-images-idx3-ubyte", dimensions=3)
        labels, path = self._read(root, f"{part}-labels-idx1-ubyte", dimensions=1)
        if len(labels) != len(images):
            raise DataCorrupt(path, f"it holds {len(labels)} labels for {len(images)} pictures")
        if len(labels) and int(labels.max()) >= self.classes:
            raise DataCorrupt(path, f"it holds the label {int(labels.max())}; labels are 0..{self.classes - 1}")
        return Pictures(images.unsqueeze(1), labels.long())

    def _read(self, root: Path, name: str, dimensions: int) -> tuple[Tensor, Path]:
        path = self._find(root, name)
        return read_idx(path, dimensions), path

    def _find(self, root: Path, name: str) -> Path:
        places = [folder / f"{name}{end}" for folder in (root / self.name, root) for end in (".gz", "")]
        for path in places:
            if path.is_file():
                return path
        remote, target = self.files[name], places[0]
        try:
            remote.download(target)
        except DownloadFailed as error:
            raise DataNotFound(f"{self.name} ({name})", places, remote.url, str(error)) from error
        return target
