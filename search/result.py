"""What a search has found."""

from __future__ import annotations

from dataclasses import dataclass

import optuna
import pandas as pd
from optuna.trial import TrialState

from search.errors import NothingFound
from search.history import RETRY_OF
from search.pareto import pareto_front
from supernet import Candidate

COLUMNS = ("number", "candidate", "predicted_ms", "accuracy", "reward", "failure")


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
        trials: one row an evaluation, in order: `number`, `candidate` (JSON), `predicted_ms` [ms], `accuracy`
            [percent points], `reward`, `failure` (the reason, where an evaluation failed; its accuracy is NaN).
        budget_ms: the budget that all of them were predicted to meet.
        exhausted: whether no candidate under the budget is left.
    """

    trials: pd.DataFrame
    budget_ms: float
    exhausted: bool

    @classmethod
    def from_study(cls, study: optuna.Study, budget_ms: float, *, exhausted: bool) -> SearchResult:
        """Read the finished trials of a study; interrupted trials are left out."""
        trials = study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
        rows = [
            {
                "number": trial.number,
                "candidate": trial.user_attrs["candidate"],
                "predicted_ms": trial.user_attrs["predicted_ms"],
                "accuracy": trial.user_attrs.get("accuracy", float("nan")),
                "reward": trial.value if trial.state is TrialState.COMPLETE else float("nan"),
                "failure": trial.user_attrs.get("failure"),
            }
            for trial in trials
            if trial.state.is_finished() and trial.number not in retried and "candidate" in trial.user_attrs
        ]
        return cls(pd.DataFrame(rows, columns=list(COLUMNS)), budget_ms, exhausted)

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
        """The trial of the highest reward, the earlier one among equals.

        Raises:
            NothingFound: no evaluation has succeeded.
        """
        if self.evaluated.empty:
            raise NothingFound("no candidate has been evaluated yet: run the search, or look at the failures in trials")
        row = self.evaluated.iloc[int(self.evaluated["reward"].astype(float).to_numpy().argmax())]
        return Winner(
            int(row["number"]),
            Candidate.from_json(row["candidate"]),
            float(row["accuracy"]),
            float(row["predicted_ms"]),
        )
