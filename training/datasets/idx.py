"""The idx format of MNIST and its relatives: big-endian sizes, then bytes (yann.lecun.com/exdb/mnist)."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.errors import DataCorrupt

UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The uint8 tensor in an idx file, gzipped if its name ends in `.gz`.

    Raises:
        DataCorrupt: truncated, damaged, or not an idx file of bytes with that many dimensions.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataCorrupt(path, f"not a complete gzip file ({error})") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise DataCorrupt(path, f"not an idx file of bytes with {dimensions} dimensions")
    shape = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4).tolist()
    found, expected = len(content) - header, int(np.prod(shape, dtype=np.int64))
    if found != expected:
        raise DataCorrupt(path, f"its header promises {expected} bytes for {shape}, it holds {found}")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy())
