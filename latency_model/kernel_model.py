"""Microseconds of kernels on one device, from those that were measured there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from compiler import KernelSpec, Target
from latency_model import artifact
from latency_model.boosting import Boosting
from latency_model.conformal import conformal_quantile
from latency_model.errors import UnknownKernel
from latency_model.extent import Extent
from latency_model.features import Encoder, schedules, work
from latency_model.neighbourhood import Neighbourhood
from latency_model.roofline import Roofline
from latency_model.runner import Floats

Kind = tuple[str, str, int]
"""Operation, element type and threads."""

COVERAGE = 0.9
ANY = "any"
OF_ITS_OWN = 30
"""Kernels of an operation from which on its intervals rest on its own errors (Mondrian conformal prediction; Vovk et
al., 2005): changes of layout are predicted worse than convolutions, and would widen the intervals of these."""


@dataclass(frozen=True)
class KernelModel:
    """Everything that is fitted to single kernels.

    Attributes:
        encoder: features of a kernel.
        roofline: the analytic part.
        boosting: logarithm of measured over analytic.
        neighbourhood: the kernels fitted to, by their features.
        extent: how far they reach.
        log_widths: half-width of the conformal interval of the logarithm for a kernel of remoteness 1, by operation;
            rare operations share that of `ANY`.
        log_growth: what is added to it for a kernel that is one deviation outside of the extent.
        measured: microseconds of the kernels fitted to. Asked for one of them, the answer is its own measurement;
            asked for a kind (operation, threads, element type) that is not among them, there is none.
    """

    encoder: Encoder
    roofline: Roofline
    boosting: Boosting
    neighbourhood: Neighbourhood
    extent: Extent
    log_widths: Mapping[str, float]
    log_growth: float
    measured: Mapping[KernelSpec, float]

    @classmethod
    def fit(cls, specs: Sequence[KernelSpec], us: Floats, target: Target, seed: int) -> KernelModel:
        """Fit to kernels with measured times `us` [len(specs)]."""
        encoder, chosen = Encoder.of(specs, target), schedules(specs, target)
        amounts = work(chosen)
        roofline = Roofline.fit(amounts, us)
        residual = np.log(us / roofline.us(amounts))
        features = encoder.encode(specs, chosen)
        boosting, unseen = Boosting.fit(features, residual, seed)
        neighbourhood, remoteness = Neighbourhood.of(features)
        ops = [spec.op for spec in specs]
        widths = _widths(ops, np.abs(unseen - residual) / remoteness)
        growth = _growth(ops, us, amounts, encoder, features, neighbourhood, widths, seed)
        extent = Extent.of(ops, encoder.shapes(features))
        measured = dict(zip(specs, us.tolist(), strict=True))
        return cls(encoder, roofline, boosting, neighbourhood, extent, widths, growth, measured)

    def predict(self, specs: Sequence[KernelSpec]) -> Floats:
        """Predicted microseconds, and half-width of the interval of their logarithm [len(specs), 2].

        The half-width is w(op) remoteness + g sqrt(excess): the further a kernel is from all that were fitted to, the
        wider its interval, and wider still outside of their extent.

        Raises:
            UnknownKernel: if a kernel is of a kind that was never measured.
        """
        for kind in dict.fromkeys(map(_kind, specs)):
            if kind not in self._kinds:
                known = "; ".join(sorted(_in_words(kind) for kind in self._kinds))
                raise UnknownKernel(
                    f"no {_in_words(kind)} was ever measured; measured are {known}. "
                    "Profile some kernels of that kind and fit again."
                )
        chosen = schedules(specs, self.encoder.target)
        features = self.encoder.encode(specs, chosen)
        analytic = self.roofline.us(work(chosen))
        modelled = analytic * np.exp(self.boosting.predict(features))
        us = [self.measured.get(spec, time) for spec, time in zip(specs, modelled.tolist(), strict=True)]
        ops = [spec.op for spec in specs]
        excess = self.extent.excess(ops, self.encoder.shapes(features))
        widths = _of_each(self.log_widths, ops) * self.neighbourhood.remoteness(features)
        return np.stack([us, widths + _grown(self.log_growth, excess)], axis=1)

    def excess(self, specs: Sequence[KernelSpec]) -> Floats:
        """Logarithm of the predicted time over the roofline's [len(specs)]."""
        if not len(specs):
            return np.empty(0)
        analytic = self.roofline.us(work(schedules(specs, self.encoder.target)))
        result: Floats = np.log(self.predict(specs)[:, 0] / analytic)
        return result

    def disagreement(self, specs: Sequence[KernelSpec]) -> Floats:
        """How far the models that were fitted to different parts of the kernels are apart: deviation of the logarithm
        [len(specs)]."""
        return self.boosting.disagreement(self.encoder.encode(specs, schedules(specs, self.encoder.target)))

    @cached_property
    def _kinds(self) -> frozenset[Kind]:
        return frozenset(map(_kind, self.measured))

    def to_facts(self) -> dict[str, Any]:
        """All but the boosted models, as plain values for JSON."""
        return {
            "target": vars(self.encoder.target),
            "categories": self.encoder.categories,
            "roofline": vars(self.roofline),
            "log_widths": {op: artifact.number(width) for op, width in self.log_widths.items()},
            "log_growth": artifact.number(self.log_growth),
            "measured": [{**spec.to_dict(), "us": us} for spec, us in self.measured.items()],
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], texts: Sequence[str]) -> KernelModel:
        """Inverse of `to_facts` and of the boosted models' texts; raises KeyError, ValueError or TypeError."""
        target = target_of(facts)
        encoder = Encoder(target, tuple((str(kind), str(value)) for kind, value in facts["categories"]))
        measured = measured_of(facts)
        specs = list(measured)
        features = encoder.encode(specs, schedules(specs, target))
        neighbourhood, _ = Neighbourhood.of(features)
        extent = Extent.of([spec.op for spec in specs], encoder.shapes(features))
        widths = {str(op): float(width) for op, width in facts["log_widths"].items()}
        growth = float(facts["log_growth"])
        roofline, boosting = Roofline(**facts["roofline"]), Boosting(texts)
        return cls(encoder, roofline, boosting, neighbourhood, extent, widths, growth, measured)


def _widths(ops: Sequence[str], scores: Floats) -> dict[str, float]:
    """Conformal half-widths of each operation that is common enough, and of all together."""
    op_of = np.array(ops)
    common = [op for op in sorted(set(ops)) if (op_of == op).sum() >= OF_ITS_OWN]
    own = {op: conformal_quantile(scores[op_of == op], COVERAGE) for op in common}
    return {**own, ANY: conformal_quantile(scores, COVERAGE)}


def _growth(
    ops: Sequence[str],
    us: Floats,
    amounts: Floats,
    encoder: Encoder,
    features: Floats,
    neighbourhood: Neighbourhood,
    widths: Mapping[str, float],
    seed: int,
) -> float:
    """How much an interval grows with the square root of the excess, by what happens to kernels of a sort never seen.

    The largest kernels, those of one scheme and so on are left out, a group at a time, and the rest is fitted to. The
    error beyond w(op) remoteness is divided by sqrt(excess), as if the residual walked at random from where it is
    known. What comes next is taken to be like one of the groups, not like one of their kernels, whose errors go
    together: it is the quantile over groups of the quantile within each. Infinite if there is no group.
    """
    op_of, shapes, inside = np.array(ops), encoder.shapes(features), _of_each(widths, ops)
    quantiles = []
    for group in encoder.varied(features):
        rest = ~group
        extent = Extent.of(op_of[rest].tolist(), shapes[rest])
        group = group & np.isin(op_of, list(extent.row))
        excess = extent.excess(op_of[group].tolist(), shapes[group])
        if not (excess > 0).any():
            continue
        roofline = Roofline.fit(amounts[rest], us[rest])
        residual = np.log(us / roofline.us(amounts))
        error = np.abs(Boosting.single(features[rest], residual[rest], seed).predict(features[group]) - residual[group])
        remoteness = replace(neighbourhood, points=neighbourhood.points[rest]).remoteness(features[group])
        beyond = np.maximum(error - inside[group] * remoteness, 0)[excess > 0]
        quantiles.append(float(np.quantile(beyond / np.sqrt(excess[excess > 0]), COVERAGE)))
    return float(np.quantile(quantiles, COVERAGE)) if quantiles else math.inf


def _grown(growth: float, excess: Floats) -> Floats:
    """`growth` sqrt(`excess`), and 0 inside, however large it is."""
    return np.multiply(growth, np.sqrt(excess), where=excess > 0, out=np.zeros(len(excess)))


def _of_each(widths: Mapping[str, float], ops: Sequence[str]) -> Floats:
    return np.array([widths.get(op, widths[ANY]) for op in ops], dtype=np.float64)


def _kind(spec: KernelSpec) -> Kind:
    return spec.op, spec.dtype, spec.threads


def _in_words(kind: Kind) -> str:
    op, dtype, threads = kind
    return f"{op} in {dtype} on {threads} thread(s)"


def target_of(facts: Mapping[str, Any]) -> Target:
    """The target that was written into `facts`."""
    return Target(**{**facts["target"], "flags": tuple(facts["target"]["flags"])})


def measured_of(facts: Mapping[str, Any]) -> dict[KernelSpec, float]:
    """Microseconds of the kernels that were written into `facts`."""
    return {KernelSpec.from_dict(row): float(row["us"]) for row in facts["measured"]}
