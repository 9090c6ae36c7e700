"""What several tests of the benchmarks share."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.nasbench201 import DEVICES, NODES, OPERATIONS


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Accuracy and latency add up over the edges; the best cell under any budget is known by enumeration."""
    codes = np.array(list(product(range(len(OPERATIONS)), repeat=len(NODES))))
    worth, cost = np.array([0.0, 1.0, 2.0, 4.0, 1.5]), np.array([0.1, 0.2, 1.0, 3.0, 0.5])
    frame = pd.DataFrame(codes, columns=[f"op{edge}" for edge in range(len(NODES))])
    frame["c10_val"], frame["c10_test"] = 60 + worth[codes].sum(1), 59 + worth[codes].sum(1)
    for scale, device in enumerate(DEVICES, 1):
        frame[f"lat_{device}"] = scale * (1 + cost[codes].sum(1))
    path = tmp_path_factory.mktemp("cells") / "table.csv.gz"
    frame.to_csv(path, index=False)
    return path
