"""A layer and the sparsity that it is to have."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.sparsity import Sparsity

Prunable = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Target:
    """One layer and the sparsity it is to have."""

    name: str
    module: Prunable
    sparsity: Sparsity

    @property
    def groups(self) -> int:
        """Groups of the convolution, 1 for a matrix."""
        return self.module.groups if isinstance(self.module, nn.Conv2d) else 1

    @property
    def group_shape(self) -> tuple[int, ...]:
        """Shape of the weight of one convolution group: sparsity never straddles groups."""
        return (self.module.weight.shape[0] // self.groups, *self.module.weight.shape[1:])

    @property
    def structural(self) -> bool:
        """Whether whole filters or channels go."""
        return self.sparsity.scheme.removes_filters or self.sparsity.scheme.removes_channels

    def expand(self, values: Tensor) -> Tensor:
        """Weight-shaped tensor of the entries of `values`, [groups * scheme's groups], that belong to each weight."""
        parts = values.chunk(self.groups)
        return torch.cat([self.sparsity.scheme.expand(part, self.group_shape) for part in parts])

    def totals(self, values: Tensor) -> Tensor:
        """Sums of weight-shaped `values` over the scheme's groups, [groups * scheme's groups]."""
        return torch.cat([self.sparsity.scheme.totals(part) for part in values.chunk(self.groups)])

    def spread(self, scores: Tensor, living: Tensor) -> Tensor:
        """Weight-shaped stand-in for the weight, float64: its squares sum to the groups' `scores`.

        Args:
            scores: not negative, [groups * scheme's groups].
            living: bool of the weight's shape; the stand-in is 0 elsewhere, and a group without any scores 0.
        """
        sizes = self.totals(living.double())
        return self.expand((scores.double() / sizes.clamp(min=1)).sqrt()) * living

    def slices(self, weight: Tensor) -> Tensor:
        """The layer's filters, or its channels, whichever the scheme removes, as the rows of a matrix."""
        if self.sparsity.scheme.removes_filters:
            return weight.flatten(1)
        return (
            weight.reshape(self.groups, -1, weight.shape[1], *weight.shape[2:]).transpose(1, 2).flatten(0, 1).flatten(1)
        )

    def mask(self, kept: Tensor) -> Tensor:
        """Bool mask of the weight in which these filters, or channels, stay (bool [number of slices])."""
        weight = self.module.weight
        kept = kept.to(weight.device)
        if self.sparsity.scheme.removes_filters:
            rows = kept[:, None].expand(-1, weight.shape[1])
        else:
            rows = kept.reshape(self.groups, 1, -1).expand(-1, weight.shape[0] // self.groups, -1).flatten(0, 1)
        return rows.reshape(*rows.shape, *[1] * (weight.dim() - 2)).expand(weight.shape).contiguous()
