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
