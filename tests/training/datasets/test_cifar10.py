"""CIFAR-10 from files in the official binary format, small enough to write here."""

import hashlib
import tarfile
from pathlib import Path

import pytest
import torch

from training.datasets.cifar10 import ARCHIVE, FOLDER, RECORD_BYTES, RECORDS, TEST, TRAIN, Cifar10
from training.datasets.download import Remote
from training.errors import DataCorrupt, DataNotFound

COUNT = 20
NOWHERE = Remote("http://127.0.0.1:9/cifar.tar.gz", "0" * 32)


def records(name: str) -> torch.Tensor:
    """[COUNT, 3073]: a label and 3072 pixels."""
    generator = torch.Generator().manual_seed((TRAIN + TEST).index(name))
    pixels = torch.randint(0, 256, (COUNT, RECORD_BYTES - 1), dtype=torch.uint8, generator=generator)
    labels = (torch.arange(COUNT) * 3 % 10).to(torch.uint8)
    return torch.cat([labels[:, None], pixels], dim=1)


def write(root: Path) -> Path:
    folder = root / FOLDER
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("airplane\n")
    for name in TRAIN + TEST:
        (folder / name).write_bytes(records(name).numpy().tobytes())
    return folder


def pack(root: Path) -> Path:
    with tarfile.open(root / ARCHIVE, "w:gz") as tar:
        tar.add(write(root / "made"), FOLDER)
    return root / ARCHIVE


def source(archive: Remote = NOWHERE) -> Cifar10:
    return Cifar10(archive, records=COUNT)


def test_folder_and_archive_give_the_same_pictures(tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    pack(tmp_path / "packed")
    write(tmp_path / "plain")
    plain, packed = (source().load(tmp_path / place, 0.1, 0) for place in ("plain", "packed"))
    assert plain.input_shape == (3, 32, 32)
    assert [len(split) for split in (plain.train, plain.validation, plain.test)] == [90, 10, 20]
    assert torch.equal(plain.train.images, packed.train.images)
    assert torch.equal(plain.test.images, packed.test.images)


def test_pixels_are_planes_of_red_green_and_blue(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = source().load(tmp_path, 0.1, 0)
    official = records(TEST[0])
    assert dataset.test.labels.tolist() == official[:, 0].tolist()
    assert dataset.normalisation is not None
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (dataset.normalisation.mean, dataset.normalisation.std)
    )
    pixels = ((dataset.test.images * std + mean) * 255).round().to(torch.uint8)
    assert torch.equal(pixels[5, 1, 2, 3], official[5, 1 + 1024 + 2 * 32 + 3])
    assert torch.equal(pixels.flatten(1), official[:, 1:])


def test_all_five_training_files_are_used(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = source().load(tmp_path, 0.1, 0)
    seen = torch.cat([dataset.train.images, dataset.validation.images])
    official = torch.cat([records(name) for name in TRAIN])[:, 1:].reshape(-1, 3, 32, 32)
    expected = source().normalisation(official)
    assert {p.numpy().tobytes() for p in seen} == {p.numpy().tobytes() for p in expected}


def test_the_archive_is_downloaded_once_and_kept(tmp_path: Path) -> None:
    served = pack(tmp_path)
    remote = Remote(served.as_uri(), hashlib.md5(served.read_bytes()).hexdigest())
    root = tmp_path / "data"
    first = source(remote).load(root, 0.1, 0)
    assert [path.name for path in root.iterdir()] == [ARCHIVE]
    served.unlink()
    assert torch.equal(source(remote).load(root, 0.1, 0).train.images, first.train.images)


def test_offline_every_missing_file_is_named_and_nothing_written(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / TRAIN[1]).unlink()
    (folder / TEST[0]).unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataNotFound) as caught:
        source().load(tmp_path, 0.1, 0)
    assert caught.value.looked_for == (folder / TRAIN[1], folder / TEST[0], tmp_path / ARCHIVE)
    assert all(str(path) in str(caught.value) for path in caught.value.looked_for)
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(DataNotFound):
        source().load(tmp_path / "nowhere", 0.1, 0)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("change", [lambda whole: whole[:-1], lambda whole: whole[:-RECORD_BYTES], lambda _: b""])
def test_a_file_of_another_length_is_named(tmp_path: Path, change: object) -> None:
    path = write(tmp_path) / TRAIN[2]
    assert callable(change)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataCorrupt, match=f"{path}.*not {COUNT * RECORD_BYTES}"):
        source().load(tmp_path, 0.1, 0)


def test_a_label_out_of_range_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path) / TEST[0]
    path.write_bytes(bytes([11]) + path.read_bytes()[1:])
    with pytest.raises(DataCorrupt, match=f"{path}.*label 11"):
        source().load(tmp_path, 0.1, 0)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = pack(tmp_path)
    whole = path.read_bytes()
    for length in (0, 5, 1000, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(DataCorrupt, match=str(path)):
            source().load(tmp_path, 0.1, 0)
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "made" / FOLDER / TRAIN[0], f"{FOLDER}/{TRAIN[0]}")
    with pytest.raises(DataCorrupt, match=f"does not hold {TRAIN[1]}, .*{TEST[0]}"):
        source().load(tmp_path, 0.1, 0)


def test_official_files_hold_ten_thousand_pictures() -> None:
    assert RECORDS * RECORD_BYTES == 30_730_000
