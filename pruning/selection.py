"""The K largest of many scores, exactly K, without sorting them."""

import numpy as np
import torch
from torch import Tensor


def largest(scores: Tensor, count: int) -> Tensor:
    """Marks the `count` largest of `scores` [n]; among equals the lower index wins.

    Returns a bool tensor [n] with exactly `count` True entries, 1 <= count <= n. A threshold and `>` alone
    would drop or keep all ties together; here ties are taken in index order until the count is full.
    """
    values = scores.cpu().numpy()
    threshold = np.partition(values, values.size - count)[values.size - count]
    chosen = values > threshold
    ties = np.flatnonzero(values == threshold)
    chosen[ties[: count - np.count_nonzero(chosen)]] = True
    return torch.from_numpy(chosen).to(scores.device)


def largest_in_rows(scores: Tensor, count: int) -> Tensor:
    """Marks the `count` largest in every row of `scores` [rows, n]; among equals the lower index wins."""
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, True)
