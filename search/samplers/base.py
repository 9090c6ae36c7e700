"""What all samplers of npas share: one Optuna parameter a site, the admission filter, no repeats."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search.encoding import Code, Encoding
from search.errors import FeasibleSetExhausted
from search.feasible import FeasibleSet, LatencyFunction
from search.history import PROPOSAL, History, read_history
from search.insight import Insight
from search.least_distortion import LeastDistortion
from supernet import Candidate, ChoiceSpace, Distortions


class CandidateSampler(BaseSampler, ABC):
    """Optuna sampler over the candidates of a space that meet a latency budget.

    A proposal is new and under the budget, and depends on the study's history and the seed alone. An objective
    gets its candidate with `suggest(trial)`, or by suggesting the parameters of `distributions()` itself.

    Args:
        space: the search space.
        latency: predicted latency of a candidate in milliseconds.
        budget_ms: candidates of a higher latency are never proposed.
        seed: seed of all random decisions.
        trials: number of evaluations that are planned, for schedules.
        distortions: gives what `supernet.distortions` does, to samplers that begin with it. Without it, or for others,
            all candidates are alike before the first evaluation.

    Raises:
        InfeasibleBudget: no candidate meets the budget.
        InvalidLatency: `latency` returned no positive finite number.
    """

    def __init__(
        self,
        space: ChoiceSpace,
        latency: LatencyFunction,
        budget_ms: float,
        *,
        seed: int = 0,
        trials: int = 200,
        distortions: Callable[[], Distortions] | None = None,
    ) -> None:
        self.space = space
        self.seed = seed
        self.trials = trials
        self.distortions = distortions
        self.encoding = Encoding(space)
        self.feasible = FeasibleSet(self.encoding, latency, budget_ms)
        self._lock = threading.RLock()

    @abstractmethod
    def propose(self, history: History, rng: np.random.Generator) -> Code | None:
        """A new admitted code; None when there is none left."""

    def insight(self, history: History) -> Insight:
        """What the sampler has learned from a history."""
        return Insight()

    @cached_property
    def rule(self) -> LeastDistortion | None:
        """Gives candidates of least distortion, if distortions are known."""
        return None if self.distortions is None else LeastDistortion(self.feasible, self.distortions())

    def first(self, history: History, rng: np.random.Generator) -> Code | None:
        """A candidate to begin with: by the rule, as long as that gives new ones, or uniform."""
        by_rule = None if self.rule is None else self.rule.start(rng, history.seen)
        return self.feasible.draw(rng, history.seen) if by_rule is None else by_rule

    @property
    def rejected(self) -> int:
        """Number of candidates looked at since the sampler was made that the budget kept from an evaluation."""
        return self.feasible.rejected

    def next_code(self, history: History) -> Code:
        """What is to be evaluated after `history`; depends on it and the seed alone.

        Raises:
            FeasibleSetExhausted: every candidate under the budget has been proposed already.
        """
        with self._lock:
            code = self.propose(history, np.random.default_rng([self.seed, len(history)]))
        if code is None:
            raise FeasibleSetExhausted(
                f"all {len(history.seen)} candidates under {self.feasible.budget_ms:.4g} ms have been evaluated: "
                "raise the budget, or offer more choices"
            )
        return code

    def distributions(self) -> dict[str, CategoricalDistribution]:
        """The parameters of a trial."""
        return self.encoding.distributions()

    def suggest(self, trial: optuna.Trial) -> Candidate:
        """The candidate that a trial is to evaluate."""
        for name, distribution in self.distributions().items():
            trial.suggest_categorical(name, distribution.choices)
        code = self.encoding.from_params(trial.params)
        assert code is not None
        return self.encoding.candidate(code)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.distributions())

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if trial.system_attrs.get("fixed_params", {}).keys() >= set(self.encoding.names):
            return {}
        with self._lock:
            code = self.next_code(read_history(study, self.encoding, trial))
            study._storage.set_trial_system_attr(trial._trial_id, PROPOSAL, list(code))
        return dict(self.encoding.params(code))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value for a parameter that is no site of the space."""
        seed = np.random.SeedSequence([self.seed, trial.number, *param_name.encode()]).generate_state(1)[0]
        return RandomSampler(seed=int(seed)).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Ends `study.optimize` when no candidate is left; outside of it there is no loop to end."""
        if self.feasible.exhausted(read_history(study, self.encoding).seen):
            with suppress(RuntimeError):
                study.stop()
