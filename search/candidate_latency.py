"""Predicted latency of the candidates of a space."""

from __future__ import annotations

from compiler import Target
from latency_model import LatencyPredictor, NetworkPrediction
from search.lowering import timed_specs
from supernet import Candidate, ChoiceSpace


class CandidateLatency:
    """What a predictor says about candidates on a target, times a factor; asking twice is free.

    Args:
        factor: see `search.calibration`.

    Raises:
        UnknownKernel: a candidate has a kernel of a kind that the predictor never saw.
    """

    def __init__(self, space: ChoiceSpace, predictor: LatencyPredictor, target: Target, *, factor: float = 1.0) -> None:
        self.space = space
        self.factor = factor
        self._predictor = predictor
        self._target = target
        self._known: dict[Candidate, NetworkPrediction] = {}

    def __call__(self, candidate: Candidate) -> NetworkPrediction:
        """Milliseconds of the candidate's network."""
        if candidate not in self._known:
            specs = timed_specs(self.space, candidate, self._target)
            self._known[candidate] = self._predictor.predict_network(specs)
        return self._known[candidate].times(self.factor)

    def upper_ms(self, candidate: Candidate) -> float:
        """The upper end of the interval, which is held against budgets."""
        return self(candidate).upper_ms

    def corrected(self, factor: float) -> CandidateLatency:
        """The same with another factor; what was asked for stays known."""
        other = CandidateLatency(self.space, self._predictor, self._target, factor=factor)
        other._known = self._known
        return other
