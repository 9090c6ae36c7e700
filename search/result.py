"""What a search has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
import pandas as pd
from optuna.trial import TrialState

from search.errors import NothingFound
from search.history import RETRY_OF
from search.pareto import hypervolume, pareto_front
from supernet import Candidate

COLUMNS = ("number", "candidate", "predicted_ms", "predicted_upper_ms", "accuracy", "reward", "failure")


@dataclass(frozen=True)
class Evaluation:
    """One finished evaluation, and how far the search has come with it.

    Attributes:
        number: of its trial.
        predicted_ms, predicted_upper_ms: predicted latency in milliseconds, and the upper end of its interval.
        accuracy: percent points; NaN if the evaluation failed, for the reason in `failure`.
        reward: NaN if the evaluation failed.
        done, trials: evaluations so far and planned.
        rejected: candidates that were looked at since the search was started and kept from an evaluation by the budget.
    """

    number: int
    candidate: Candidate
    predicted_ms: float
    predicted_upper_ms: float
    accuracy: float
    reward: float
    failure: str | None
    done: int
    trials: int
    rejected: int


@dataclass(frozen=True)
class Winner:
    """One evaluated candidate.

    Attributes:
        number: of its trial.
        accuracy: of the fast evaluation, in percent points.
        predicted_ms: predicted latency in milliseconds.
    """

    number: int
    candidate: Candidate
    accuracy: float
    predicted_ms: float


@dataclass(frozen=True)
class SearchResult:
    """The evaluations of a search.

    Attributes:
        trials: one row an evaluation, in order: `number`, `candidate` (JSON), `predicted_ms` [ms] and the upper end of
            its interval, `accuracy` [percent points], `reward`, `failure` (the reason, where an evaluation failed; its
            accuracy is NaN).
        budgets_ms: the budgets, the largest first, which all of them were predicted to meet.
        exhausted: whether no candidate under the budget is left.
    """

    trials: pd.DataFrame
    budgets_ms: tuple[float, ...]
    exhausted: bool

    @classmethod
    def from_study(cls, study: optuna.Study, budgets_ms: Sequence[float], *, exhausted: bool) -> SearchResult:
        """Read the finished trials of a study; interrupted trials are left out."""
        trials = study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
        rows = [
            {
                "number": trial.number,
                "candidate": trial.user_attrs["candidate"],
                "predicted_ms": trial.user_attrs["predicted_ms"],
                "predicted_upper_ms": trial.user_attrs["predicted_upper_ms"],
                "accuracy": trial.user_attrs.get("accuracy", float("nan")),
                "reward": trial.value if trial.state is TrialState.COMPLETE else float("nan"),
                "failure": trial.user_attrs.get("failure"),
            }
            for trial in trials
            if trial.state.is_finished() and trial.number not in retried and "candidate" in trial.user_attrs
        ]
        return cls(pd.DataFrame(rows, columns=list(COLUMNS)), tuple(budgets_ms), exhausted)

    def after(self, evaluation: Evaluation) -> SearchResult:
        """The same with one evaluation more."""
        row = {**{name: getattr(evaluation, name) for name in COLUMNS}, "candidate": evaluation.candidate.to_json()}
        rows = [*self.trials.to_dict("records"), row]
        return SearchResult(pd.DataFrame(rows, columns=list(COLUMNS)), self.budgets_ms, self.exhausted)

    @property
    def evaluated(self) -> pd.DataFrame:
        """The trials whose evaluation succeeded."""
        return self.trials[self.trials["failure"].isna()]

    @property
    def pareto(self) -> pd.DataFrame:
        """The trials that no other one beats in accuracy and predicted latency, the fastest first."""
        return pareto_front(self.evaluated, maximise="accuracy", minimise="predicted_ms")

    @property
    def best(self) -> Winner:
        """The trial of the highest reward under the largest budget, the earlier one among equals.

        Raises:
            NothingFound: no evaluation has succeeded.
        """
        return self.best_under(self.budgets_ms[0])

    def best_under(self, budget_ms: float) -> Winner:
        """The trial of the highest reward among those predicted to meet a budget, by the upper end of the interval.

        Raises:
            NothingFound: no evaluation of such a candidate has succeeded.
        """
        rows = self.evaluated[self.evaluated["predicted_upper_ms"] <= budget_ms]
        if rows.empty:
            raise NothingFound(
                f"no candidate under {budget_ms:.4g} ms has been evaluated yet: run the search, or look at the "
                "failures in trials"
            )
        row = rows.iloc[int(rows["reward"].astype(float).to_numpy().argmax())]
        return Winner(
            int(row["number"]),
            Candidate.from_json(row["candidate"]),
            float(row["accuracy"]),
            float(row["predicted_ms"]),
        )

    @property
    def progress(self) -> pd.DataFrame:
        """A row an evaluation that succeeded: `number`, the best accuracy so far under each budget (a column a budget,
        in milliseconds; NaN before the first), and the `hypervolume` so far [percent points * ms]."""
        rows = self.evaluated
        accuracy, upper_ms = rows["accuracy"].astype(float), rows["predicted_upper_ms"].astype(float)
        progress = rows[["number"]].copy()
        for ms in self.budgets_ms:
            progress[ms] = accuracy.where(upper_ms <= ms).cummax().ffill()
        progress["hypervolume"] = [self._hypervolume(rows.iloc[:count]) for count in range(1, len(rows) + 1)]
        return progress

    @property
    def hypervolume(self) -> float:
        """The area over accuracy 0 and under the largest budget that the front dominates, by the upper ends of the
        predictions [percent points * ms]."""
        return self._hypervolume(self.evaluated)

    def _hypervolume(self, rows: pd.DataFrame) -> float:
        return hypervolume(rows, (0.0, self.budgets_ms[0]), "accuracy", "predicted_upper_ms")
