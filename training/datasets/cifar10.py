"""CIFAR-10 (Krizhevsky 2009) from its official binary version."""

import gzip
import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch

from training.data import Normalisation
from training.datasets.download import DownloadFailed, Remote
from training.datasets.source import Pictures, Source
from training.errors import DataCorrupt, DataNotFound

FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
OFFICIAL = Remote(f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}", md5="c32a1d4ab5d03f1284b67883e8d87530")
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = ("test_batch.bin",)
RECORD_BYTES = 1 + 3 * 32 * 32
RECORDS = 10_000


class Cifar10(Source):
    """60 000 colour pictures, 32x32; read from `root/cifar-10-batches-bin`, else from `root/cifar-10-binary.tar.gz`.

    Normalised with ImageNet's constants, as the widespread ResNet-20..110 checkpoints for it expect.

    Args:
        archive: what is downloaded if neither is there.
        records: pictures a file.
    """

    name = "cifar10"
    classes = 10
    normalisation = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    validation = 0.1

    def __init__(self, archive: Remote = OFFICIAL, records: int = RECORDS) -> None:
        self.archive = archive
        self.records = records

    def read(self, root: Path) -> tuple[Pictures, Pictures]:
        files = [root / FOLDER / name for name in TRAIN + TEST]
        archive = root / ARCHIVE
        missing = [path for path in files if not path.is_file()]
        if missing and not archive.is_file():
            self._download(archive, missing)
        contents = self._from_archive(archive) if missing else {path.name: (path, path.read_bytes()) for path in files}
        return self._pictures(contents, TRAIN), self._pictures(contents, TEST)

    def _download(self, archive: Path, missing: list[Path]) -> None:
        try:
            self.archive.download(archive)
        except DownloadFailed as error:
            raise DataNotFound(self.name, [*missing, archive], self.archive.url, str(error)) from error

    def _from_archive(self, archive: Path) -> dict[str, tuple[Path, bytes]]:
        contents = {}
        try:
            with gzip.open(archive) as unpacked, tarfile.open(fileobj=unpacked) as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    if file is not None:
                        contents[Path(member.name).name] = (archive, file.read())
                while unpacked.read(1 << 20):  # gzip checks its checksum at the very end
                    pass
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise DataCorrupt(archive, f"not a complete .tar.gz ({error})") from error
        missing = [name for name in TRAIN + TEST if name not in contents]
        if missing:
            raise DataCorrupt(archive, f"it does not hold {', '.join(missing)}")
        return contents

    def _pictures(self, contents: dict[str, tuple[Path, bytes]], names: tuple[str, ...]) -> Pictures:
        parts = []
        for name in names:
            path, content = contents[name]
            if len(content) != self.records * RECORD_BYTES:
                expected = self.records * RECORD_BYTES
                raise DataCorrupt(path, f"{name} has {len(content)} bytes, not {expected}")
            records = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD_BYTES).copy())
            if int(records[:, 0].max()) >= self.classes:
                raise DataCorrupt(path, f"{name} holds the label {int(records[:, 0].max())}; labels are 0..9")
            parts.append(records)
        joined = torch.cat(parts)
        return Pictures(joined[:, 1:].reshape(-1, 3, 32, 32), joined[:, 0].long())
