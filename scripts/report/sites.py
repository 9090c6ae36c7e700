"""The best candidate, site by site: what was chosen and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.metrics import KernelTime, Metrics
from supernet import Choice

_LAYOUTS = {"pack": "input", "unpack": "output"}
"""Changes of layout at the ends of a network belong to no layer."""


@dataclass(frozen=True)
class SiteRow:
    """A site, or one of the layers around the sites; `measured_us` is the sum over its kernels."""

    where: str
    operator: str
    scheme: str
    rate: str
    forms: str
    measured_us: float
    share: float


def site_rows(network: Metrics) -> list[SiteRow]:
    """Rows in execution order: what precedes the sites, the sites, what follows them. `share` in percent."""
    total = sum(kernel.measured_us for kernel in network.kernels)
    choices = [Choice.parse(text) for text in network.candidate]
    rows = [
        _row(
            network.sites[index] if network.sites else f"site {index}",
            choice.operator,
            str(choice.sparsity.scheme),
            f"{choice.sparsity.rate:g}",
            [kernel for kernel in network.kernels if network.site_of(kernel) == index],
            total,
        )
        for index, choice in enumerate(choices)
    ]
    searched = [position for position, kernel in enumerate(network.kernels) if network.site_of(kernel) is not None]
    first = min(searched, default=len(network.kernels))
    around = [
        (position, _row(_LAYOUTS.get(kernel.op, kernel.layer), kernel.op, "dense", "1", [kernel], total))
        for position, kernel in enumerate(network.kernels)
        if network.site_of(kernel) is None
    ]
    before = [row for position, row in around if position < first]
    after = [row for position, row in around if position >= first]
    return [*before, *rows, *after]


def _row(where: str, operator: str, scheme: str, rate: str, kernels: list[KernelTime], total: float) -> SiteRow:
    spent = sum(kernel.measured_us for kernel in kernels)
    forms = ", ".join(dict.fromkeys(f"{kernel.form} {kernel.tile}".strip() for kernel in kernels)) or "no kernel"
    return SiteRow(where, operator, scheme, rate, forms, spent, 100 * spent / total if total else 0.0)
