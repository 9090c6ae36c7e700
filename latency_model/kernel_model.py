"""Microseconds of kernels on one device, from those that were measured there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from compiler import KernelSpec, Target
from latency_model import artifact
from latency_model.boosting import Boosting
from latency_model.conformal import conformal_quantile
from latency_model.errors import UnknownKernel
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
        log_widths: half-width of the conformal interval of the logarithm for a kernel of remoteness 1, by operation;
            rare operations share that of `ANY`.
        measured: microseconds of the kernels fitted to. Asked for one of them, the answer is its own measurement;
            asked for a kind (operation, threads, element type) that is not among them, there is none.
    """

    encoder: Encoder
    roofline: Roofline
    boosting: Boosting
    neighbourhood: Neighbourhood
    log_widths: Mapping[str, float]
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
        widths = _widths(specs, np.abs(unseen - residual) / remoteness)
        return cls(encoder, roofline, boosting, neighbourhood, widths, dict(zip(specs, us.tolist(), strict=True)))

    def predict(self, specs: Sequence[KernelSpec]) -> Floats:
        """Predicted microseconds, and half-width of the interval of their logarithm [len(specs), 2].

        The further a kernel is from all that were fitted to, the wider its interval.

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
        widths = np.array([self.log_widths.get(spec.op, self.log_widths[ANY]) for spec in specs])
        return np.stack([us, widths * self.neighbourhood.remoteness(features)], axis=1)

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
            "measured": [{**spec.to_dict(), "us": us} for spec, us in self.measured.items()],
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], texts: Sequence[str]) -> KernelModel:
        """Inverse of `to_facts` and of the boosted models' texts; raises KeyError, ValueError or TypeError."""
        target = target_of(facts)
        encoder = Encoder(target, tuple((str(kind), str(value)) for kind, value in facts["categories"]))
        measured = measured_of(facts)
        specs = list(measured)
        neighbourhood, _ = Neighbourhood.of(encoder.encode(specs, schedules(specs, target)))
        widths = {str(op): float(width) for op, width in facts["log_widths"].items()}
        return cls(encoder, Roofline(**facts["roofline"]), Boosting(texts), neighbourhood, widths, measured)


def _widths(specs: Sequence[KernelSpec], scores: Floats) -> dict[str, float]:
    """Conformal half-widths of each operation that is common enough, and of all together."""
    ops = np.array([spec.op for spec in specs])
    common = [op for op in sorted(set(ops.tolist())) if (ops == op).sum() >= OF_ITS_OWN]
    own = {op: conformal_quantile(scores[ops == op], COVERAGE) for op in common}
    return {**own, ANY: conformal_quantile(scores, COVERAGE)}


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
