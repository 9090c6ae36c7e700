"""Geometric median: the filters that others can stand in for go first (FPGM, 1811.00250)."""

from typing import ClassVar

import torch
from torch import Tensor

from pruning.algorithm import ALGORITHMS, Algorithm
from pruning.assignment import Target


@ALGORITHMS.add
class GeometricMedian(Algorithm):
    """Removes the filters closest to the layer's geometric median, whatever their norm.

    Score of filter o: sum over o' of ||W[o] - W[o']||, the smallest go. Layers whose scheme removes no whole filters
    are pruned by energy.
    """

    name: ClassVar[str] = "geometric_median"

    def choose(self, target: Target, group: int, weight: Tensor) -> Tensor:
        scheme = target.sparsity.scheme
        if not scheme.removes_filters:
            return super().choose(target, group, weight)
        filters = weight.flatten(1).double()
        distances = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist")  # duplicates tie
        return scheme.expand(scheme.select(distances.sum(1), weight.shape, target.sparsity.rate), weight.shape)
