"""Fashion-MNIST from files in the official format, small enough to write here."""

import gzip
import struct
from pathlib import Path

import pytest
import torch

from training.datasets.download import Remote
from training.datasets.fashion_mnist import OFFICIAL, FashionMnist
from training.errors import DataCorrupt, DataNotFound

COUNTS = {"train": 40, "t10k": 20}
SIDE = 28


def labels_of(part: str) -> list[int]:
    return [index * 7 % 10 for index in range(COUNTS[part])]


def pixels_of(part: str) -> bytes:
    generator = torch.Generator().manual_seed(COUNTS[part])
    size = (COUNTS[part], SIDE, SIDE)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator).numpy().tobytes()


def write(folder: Path, gzipped: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in COUNTS.items():
        images = bytes([0, 0, 8, 3]) + struct.pack(">III", count, SIDE, SIDE) + pixels_of(part)
        labels = bytes([0, 0, 8, 1]) + struct.pack(">I", count) + bytes(labels_of(part))
        for name, content in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            path = folder / (f"{name}.gz" if gzipped else name)
            path.write_bytes(gzip.compress(content) if gzipped else content)


@pytest.fixture
def offline() -> FashionMnist:
    """Its files are on a server that nobody answers at."""
    return FashionMnist(
        {name: Remote(f"http://127.0.0.1:9/{name}.gz", remote.md5) for name, remote in OFFICIAL.items()}
    )


@pytest.mark.parametrize("folder", ["", "fashion_mnist"])
@pytest.mark.parametrize("gzipped", [True, False])
def test_official_files_are_read_wherever_they_lie(
    tmp_path: Path, offline: FashionMnist, folder: str, gzipped: bool
) -> None:
    write(tmp_path / folder, gzipped)
    dataset = offline.load(tmp_path, validation=0.25, seed=0)
    assert dataset.input_shape == (1, SIDE, SIDE)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [30, 10, 20]
    assert dataset.test.labels.tolist() == labels_of("t10k")
    pixels = (dataset.test.images * 0.3530 + 0.2860) * 255
    assert pixels.round().to(torch.uint8).numpy().tobytes() == pixels_of("t10k")


def test_offline_says_what_is_missing_and_where_it_was_looked_for(tmp_path: Path, offline: FashionMnist) -> None:
    write(tmp_path)
    name = "t10k-labels-idx1-ubyte"
    (tmp_path / f"{name}.gz").unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataNotFound) as caught:
        offline.load(tmp_path, None, 0)
    folders = (tmp_path / "fashion_mnist", tmp_path)
    assert set(caught.value.looked_for) == {folder / file for folder in folders for file in (name, f"{name}.gz")}
    assert all(str(path) in str(caught.value) for path in caught.value.looked_for)
    assert "http://127.0.0.1:9" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_labels_that_do_not_fit_are_noticed(tmp_path: Path, offline: FashionMnist) -> None:
    write(tmp_path, gzipped=False)
    path = tmp_path / "train-labels-idx1-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + struct.pack(">I", COUNTS["train"] - 1) + whole[8:-1])
    with pytest.raises(DataCorrupt, match=f"{path}.*39 labels for 40 pictures"):
        offline.load(tmp_path, None, 0)
    path.write_bytes(whole[:-1] + bytes([10]))
    with pytest.raises(DataCorrupt, match=f"{path}.*label 10"):
        offline.load(tmp_path, None, 0)


def test_a_truncated_file_is_named(tmp_path: Path, offline: FashionMnist) -> None:
    write(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataCorrupt, match=str(path)):
        offline.load(tmp_path, None, 0)


def test_official_addresses_end_in_the_names_that_are_looked_for() -> None:
    assert {remote.url.rsplit("/", 1)[1] for remote in OFFICIAL.values()} == {f"{name}.gz" for name in OFFICIAL}
    assert all(remote.url.startswith("https://") and len(remote.md5) == 32 for remote in OFFICIAL.values())
