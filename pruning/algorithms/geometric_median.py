"""Geometric median: the filters that others can stand in for go first (FPGM, 1811.00250)."""

from typing import ClassVar

import torch
from torch import Tensor

from pruning.algorithm import ALGORITHMS, Algorithm
from pruning.target import Target


@ALGORITHMS.add
class GeometricMedian(Algorithm):
    """Removes the filters closest to the layer's geometric median, whatever their norm.

    Score of filter o: sum over o' of ||W[o] - W[o']||, the smallest go. Layers whose scheme removes no whole filters
    are pruned by energy.
    """

    name: ClassVar[str] = "geometric_median"

    def rank(self, target: Target, weight: Tensor) -> Tensor:
        if not target.sparsity.scheme.removes_filters:
            return weight
        distances = []
        for part in weight.flatten(1).double().chunk(target.groups):
            distances.append(torch.cdist(part, part, compute_mode="donot_use_mm_for_euclid_dist"))  # duplicates tie
        scores = torch.cat([between.sum(1) for between in distances])
        return target.spread(scores, torch.ones_like(weight, dtype=torch.bool))
