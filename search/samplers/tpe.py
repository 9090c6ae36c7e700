"""Baseline: Optuna's tree-structured Parzen estimator under the budget as a constraint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import TPESampler as OptunaTPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.encoding import Code
from search.history import History
from search.samplers.base import CandidateSampler

TRIES = 30


class TPESampler(CandidateSampler):
    """Multivariate TPE (Watanabe 2023, arXiv 2304.11127) with Optuna's constraint on latency, and the filter.

    What it proposes over the budget it is told at once as a trial that violates the constraint, and proposes anew.
    After 30 proposals over the budget or made before, the next is uniform feasible.
    """

    def propose(self, history: History, rng: np.random.Generator) -> Code | None:
        worst = min((o.reward for o in history.observations), default=0.0)
        study = self._study(history, worst, seed=int(rng.integers(2**31)))
        for _ in range(TRIES):
            code = self._ask(study)
            if not self.feasible.admits(code):
                study.add_trial(self._trial(code, worst))
            elif code not in history.seen:
                return code
        return self.feasible.draw(rng, history.seen)

    def _study(self, history: History, worst: float, *, seed: int) -> optuna.Study:
        """The history as TPE reads it; candidates that are being evaluated count as the worst seen."""
        with _without_news():
            study = optuna.create_study(direction="maximize", sampler=OptunaTPESampler(seed=seed, multivariate=True))
        study.add_trials([self._trial(o.code, o.reward) for o in history.observations])
        study.add_trials([self._trial(code, worst) for code in history.pending])
        return study

    def _trial(self, code: Code, value: float) -> FrozenTrial:
        return create_trial(
            value=value,
            params=dict(self.encoding.params(code)),
            distributions=self._unchanging,
            constraints={"latency": self.feasible.latency_ms(code) - self.feasible.budget_ms},
        )

    @cached_property
    def _unchanging(self) -> dict[str, BaseDistribution]:
        return {name: _Unchanging(given.choices) for name, given in self.distributions().items()}

    def _ask(self, study: optuna.Study) -> Code:
        trial = study.ask(self._unchanging)
        code = self.encoding.from_params(trial.params)
        assert code is not None
        study.tell(trial, state=TrialState.FAIL)
        return code


class _Unchanging(CategoricalDistribution):
    """One that is not copied with every trial of a history that is told anew for every proposal."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Unchanging:
        return self

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    __hash__ = CategoricalDistribution.__hash__


@contextmanager
def _without_news() -> Iterator[None]:
    """That there is one more study in memory, for every proposal, is nothing to log."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
