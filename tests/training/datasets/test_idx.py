"""The idx format, written here byte by byte."""

import gzip
from pathlib import Path

import pytest
import torch

from training.datasets.idx import read_idx
from training.errors import DataCorrupt

CONTENT = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 20, 30, 40, 50, 255])
PICTURES = torch.tensor([[[10, 20, 30]], [[40, 50, 255]]], dtype=torch.uint8)


def test_plain_and_gzipped(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    (tmp_path / "a.gz").write_bytes(gzip.compress(CONTENT))
    assert torch.equal(read_idx(tmp_path / "a", 3), PICTURES)
    assert torch.equal(read_idx(tmp_path / "a.gz", 3), PICTURES)


def test_every_truncation_and_every_addition_is_noticed(tmp_path: Path) -> None:
    for name, whole in (("a", CONTENT), ("a.gz", gzip.compress(CONTENT))):
        path = tmp_path / name
        for content in [whole[:length] for length in range(len(whole))] + [whole + b"x"]:
            path.write_bytes(content)
            with pytest.raises(DataCorrupt, match=str(path)):
                read_idx(path, 3)


@pytest.mark.parametrize("content", [CONTENT[:2] + b"\x0d" + CONTENT[3:], CONTENT[:3] + b"\x01" + CONTENT[4:]])
def test_other_types_and_dimensions_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataCorrupt, match="3 dimensions"):
        read_idx(tmp_path / "a", 3)


def test_a_damaged_gzip_is_noticed(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 1, 0]) + bytes(range(256))))
    whole[len(whole) // 2] ^= 4
    (tmp_path / "a.gz").write_bytes(whole)
    with pytest.raises(DataCorrupt, match="gzip"):
        read_idx(tmp_path / "a.gz", 1)
