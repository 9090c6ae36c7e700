"""The choice of a kernel: all forms that can compute a spec compete."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from compiler.errors import UnsupportedOperator
from compiler.kernels import FAMILIES, FAMILIES_OF, Schedule
from compiler.spec import KernelSpec
from compiler.target import Target
from pruning import Sparsity


@lru_cache(maxsize=65536)
def schedule(spec: KernelSpec, target: Target) -> Schedule:
    """The cheapest way to compute `spec` on `target`; depends on nothing else.

    Raises:
        UnsupportedOperator: if no family computes the spec.
    """
    offers = [offer for name in FAMILIES_OF[spec.op] for offer in FAMILIES[name].candidates(spec, target)]
    if not offers:
        raise UnsupportedOperator(f"no kernel family computes {spec}")
    best = min(offers, key=lambda offer: offer.cycles)
    if spec.sparsity.rate == 1:
        return best
    dense = schedule(replace(spec, sparsity=Sparsity()), target)
    if best.form == "sparse":
        gain = dense.cycles / best.cycles
        return replace(best, why=f"skips zeros: {gain:.2f}x fewer cycles than the best dense kernel ({dense.family})")
    return replace(best, why=f"skipping the zeros of {spec.sparsity} would cost more cycles than computing them")
