"""Differentiable top-k: a soft mask that sums to k exactly, and hardens as the temperature falls (2403.19969)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

HALVINGS = 100
MARGIN = 60.0
"""sigmoid(60) is 1 in float64."""


def thresholds(
    logits: Tensor, cells: Tensor, quotas: Tensor, temperature: float, start: Tensor | None = None
) -> Tensor:
    """The t of every cell with which sum_i sigmoid(m_i / temperature + t) over the cell is its quota.

    Bisection, with Newton steps where they stay inside the bracket.

    Args:
        logits: m [n].
        cells: number of every entry's cell, int64 [n].
        quotas: wanted sums, [cells], each above 0 and at most the size of the cell.
        temperature: above 0.
        start: where to look first, [cells], such as t of slightly different logits.

    Returns:
        float64 [cells]; infinite where the whole cell stays.
    """
    scaled = logits.detach().double() / temperature
    quotas = quotas.double()
    count = len(quotas)
    outside = torch.full_like(quotas, torch.inf)
    low = -outside.scatter_reduce(0, cells, -scaled, "amin").neg() - MARGIN
    high = -outside.scatter_reduce(0, cells, scaled, "amin") + MARGIN
    t = (low + high) / 2 if start is None else start.clamp(low, high)
    whole = _sums(torch.ones_like(scaled), cells, count) <= quotas
    for _ in range(HALVINGS):
        soft = torch.sigmoid(scaled + t[cells])
        excess = _sums(soft, cells, count) - quotas
        if bool(((excess.abs() <= 1e-9 * quotas) | whole).all()):
            break
        low, high = torch.where(excess < 0, t, low), torch.where(excess > 0, t, high)
        newton = t - excess / _sums(soft * (1 - soft), cells, count)
        t = torch.where((newton > low) & (newton < high), newton, (low + high) / 2)
    return t.masked_fill(whole, torch.inf)


def soft_mask(logits: Tensor, cells: Tensor, threshold: Tensor, temperature: float) -> Tensor:
    """f_i = sigmoid(m_i / temperature + t), in the logits' dtype, with t = `threshold` of the entry's cell.

    The gradient is that of t's definition, df_i / dm_j = (s_i [i = j] - s_i s_j / sum_l s_l) / temperature with
    s = f (1 - f), sums over a cell, and not one through the search for t.
    """
    mask: Tensor = _SoftMask.apply(logits, cells, threshold, temperature)  # type: ignore[no-untyped-call]
    return mask


class _SoftMask(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, cells: Tensor, threshold: Tensor, temperature: float) -> Tensor:
        soft = torch.sigmoid(logits.double() / temperature + threshold[cells])
        ctx.save_for_backward(soft, cells)
        ctx.temperature, ctx.count = temperature, len(threshold)
        return soft.to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        soft, cells = ctx.saved_tensors
        slope = soft * (1 - soft)
        weighted = slope * gradient
        total = _sums(slope, cells, ctx.count)
        mean = torch.where(total > 0, _sums(weighted, cells, ctx.count) / total, 0)
        return ((weighted - slope * mean[cells]) / ctx.temperature).to(gradient.dtype), None, None, None


def _sums(values: Tensor, cells: Tensor, count: int) -> Tensor:
    """Sum of `values` in every cell."""
    if count == 1:
        return values.sum().reshape(1)
    return torch.zeros(count, dtype=values.dtype, device=values.device).index_add_(0, cells, values)
