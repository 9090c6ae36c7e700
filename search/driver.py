"""The search loop: asks the sampler, has candidates evaluated by the cluster's workers, tells the study."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState, create_trial

from search.cluster import Cluster, LocalCluster, Outcome
from search.errors import SearchFailed, StudyMismatch
from search.history import History, Ledger
from search.objective import reward
from search.result import Evaluation, SearchResult
from search.samplers import sampler_for
from search.storage import masked
from search.study import STUDY_NAME, open_study, retry_interrupted
from supernet import Candidate, ChoiceSpace, Distortions

FORMAT = 1
FAILURES_IN_A_ROW = 5

_logger = logging.getLogger(__name__)


class PredictedLatency(Protocol):
    """What a latency predictor says about a network, in milliseconds."""

    @property
    def mean_ms(self) -> float: ...

    @property
    def upper_ms(self) -> float: ...


@dataclass(frozen=True)
class _Started:
    """A trial whose candidate is being evaluated."""

    number: int
    trial_id: int
    candidate: Candidate
    prediction: PredictedLatency


class Search:
    """Searches candidates of high accuracy among those whose predicted latency meets a budget.

    Args:
        space: the search space.
        evaluator: accuracy of a candidate in percent points; may raise `EvaluationFailed`.
        latency: predicted latency of a candidate; the upper end of its interval is held against the budget.
        budget_ms: milliseconds; with several budgets the sampler serves them in turn, in one study.
        storage: path of an SQLite file, or a database URL that Optuna understands.
        sampler: name of the sampler.
        trials: number of evaluations.
        seed: of all random decisions; recorded with every trial.
        options: further keyword arguments of the sampler, or others than these.
        cluster: where candidates are evaluated; in this process by default.
        study: name of the study, in a database that holds several.
        distortions: how far each choice moves the outputs, for samplers that begin with that.

    Raises:
        UnknownSampler: there is no sampler of that name.
        InfeasibleBudget: no candidate meets the budget.
    """

    def __init__(
        self,
        space: ChoiceSpace,
        evaluator: Callable[[Candidate], float],
        latency: Callable[[Candidate], PredictedLatency],
        budget_ms: float | Sequence[float],
        storage: str | Path,
        *,
        sampler: str = "npas",
        trials: int = 200,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        cluster: Cluster | None = None,
        study: str = STUDY_NAME,
        distortions: Callable[[], Distortions] | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.latency = latency
        self.budgets_ms = _descending(budget_ms)
        self.storage = storage
        self.trials = trials
        self.seed = seed
        self.cluster = cluster or LocalCluster()
        self.study = study
        self.sampler = sampler_for(
            sampler,
            space,
            lambda candidate: latency(candidate).upper_ms,
            self.budgets_ms,
            seed=seed,
            trials=trials,
            **{"distortions": distortions, **(options or {})},
        )
        self.facts = {
            "format": FORMAT,
            "space": space.fingerprint(),
            "budget_ms": list(self.budgets_ms) if len(self.budgets_ms) > 1 else self.budgets_ms[0],
            "sampler": sampler,
            "options": dict(options or {}),
            "seed": seed,
        }

    def run(
        self,
        on_trial: Callable[[Evaluation], None] | None = None,
        *,
        on_start: Callable[[SearchResult], None] | None = None,
    ) -> SearchResult:
        """Evaluate until `trials` evaluations are done or no candidate is left.

        `on_start` is told what the study holds already, `on_trial` every evaluation after that.

        A study that is there already is continued: finished trials count, and candidates whose evaluation was
        interrupted are evaluated first. With one evaluation at a time, a search that was stopped anywhere finds what
        it would have found without; with several, what is found depends on which of them is finished first. A finished
        search of which more trials are wanted is continued too, but samplers plan by their number: it is not the
        search that has as many from the start.

        Raises:
            StudyBusy, StudyCorrupt: the study file cannot be used.
            StudyMismatch: the study has another space, budget, sampler, seed or latency predictor.
            SearchFailed: five evaluations failed in a row.
            StorageUnreachable: the database cannot be reached, or was away for longer than the search waits.
            ClusterError: the cluster cannot be used, or got lost.
        """
        with (
            open_study(self.storage, self.sampler, self.facts, name=self.study) as study,
            self.cluster.workers(self.evaluator, self.trials) as workers,
        ):
            self._check_latencies(study)
            retry_interrupted(study, self.sampler)
            ledger = Ledger.read(study, self.sampler.encoding)
            if on_start is not None:
                on_start(SearchResult.from_study(study, self.budgets_ms, exhausted=self._exhausted(ledger.history)))
            running: dict[int, _Started] = {}
            failures = 0
            while True:
                while len(running) < workers.parallel:
                    history = ledger.history
                    if not self._more(history, len(running)):
                        break
                    started = self._start(study, ledger, waiting=len(history.pending) > len(running))
                    running[started.number] = started
                    workers.submit(started.number, started.candidate)
                if not running:
                    return SearchResult.from_study(study, self.budgets_ms, exhausted=self._exhausted(history))
                outcome = workers.next()
                evaluation = self._finish(study, ledger, running.pop(outcome.number), outcome)
                failures = failures + 1 if evaluation.failure else 0
                if on_trial is not None:
                    on_trial(evaluation)
                if failures == FAILURES_IN_A_ROW:
                    raise SearchFailed(
                        f"{failures} evaluations failed in a row, the last one because {evaluation.failure}"
                    )

    def _more(self, history: History, running: int) -> bool:
        """Whether another evaluation is to be started: one that was interrupted, or one of a new candidate."""
        if len(history.observations) + running >= self.trials:
            return False
        return len(history.pending) > running or not self._exhausted(history)

    def _exhausted(self, history: History) -> bool:
        return self.sampler.feasible.exhausted(history.seen)

    def _start(self, study: optuna.Study, ledger: Ledger, *, waiting: bool) -> _Started:
        """A new trial: of a candidate that waits in the study, or of one that the sampler proposes.

        A proposal is written at once with all that belongs to it, and nothing is read. `study.ask` and `study.tell`
        would make dozens of transactions of that, which take longer than many an evaluation.
        """
        if waiting:
            asked = study.ask(dict(self.sampler.distributions()))
            candidate = self.sampler.suggest(asked)
            prediction = self.latency(candidate)
            for key, value in self._attributes(candidate, prediction).items():
                asked.set_user_attr(key, value)
            asked.set_constraint("latency", prediction.upper_ms - self.budgets_ms[0])
            ledger.begin(asked.number, self.sampler.encoding.code(candidate))
            return _Started(asked.number, asked._trial_id, candidate, prediction)
        number, code = ledger.next_number, self.sampler.next_code(ledger.history)
        candidate = self.sampler.encoding.candidate(code)
        prediction = self.latency(candidate)
        trial_id = study._storage.create_new_trial(
            study._study_id,
            create_trial(
                state=TrialState.RUNNING,
                params=dict(self.sampler.encoding.params(code)),
                distributions=dict(self.sampler.distributions()),
                user_attrs=self._attributes(candidate, prediction),
                constraints={"latency": prediction.upper_ms - self.budgets_ms[0]},
            ),
        )
        ledger.begin(number, code)
        return _Started(number, trial_id, candidate, prediction)

    def _attributes(self, candidate: Candidate, prediction: PredictedLatency) -> dict[str, Any]:
        return {
            "candidate": candidate.to_json(),
            "predicted_ms": prediction.mean_ms,
            "predicted_upper_ms": prediction.upper_ms,
            "seed": self.seed,
        }

    def _finish(self, study: optuna.Study, ledger: Ledger, started: _Started, outcome: Outcome) -> Evaluation:
        storage, prediction, value = study._storage, started.prediction, math.nan
        if outcome.failure is None:
            value = reward(outcome.accuracy, prediction.upper_ms, self.budgets_ms[0])
            storage.set_trial_user_attr(started.trial_id, "accuracy", outcome.accuracy)
            storage.set_trial_state_values(started.trial_id, TrialState.COMPLETE, [value])
            ledger.end(started.number, value)
        else:
            storage.set_trial_user_attr(started.trial_id, "failure", outcome.failure)
            storage.set_trial_state_values(started.trial_id, TrialState.FAIL)
            ledger.end(started.number, None)
            _logger.warning("the evaluation of trial %d failed: %s", started.number, outcome.failure)
        return Evaluation(
            number=started.number,
            candidate=started.candidate,
            predicted_ms=prediction.mean_ms,
            predicted_upper_ms=prediction.upper_ms,
            accuracy=outcome.accuracy,
            reward=value,
            failure=outcome.failure,
            done=len(ledger.history.observations),
            trials=self.trials,
            rejected=self.sampler.rejected,
        )

    def _check_latencies(self, study: optuna.Study) -> None:
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            now = self.latency(Candidate.from_json(trial.user_attrs["candidate"])).mean_ms
            then = trial.user_attrs["predicted_ms"]
            if not math.isclose(now, then, rel_tol=1e-6):
                raise StudyMismatch(
                    f"trial {trial.number} of the study in {masked(self.storage)} was predicted at {then:.6g} ms and "
                    f"is at {now:.6g} ms now: the latency predictor is another one; use another place for this search"
                )


def _descending(budget_ms: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted(budget_ms, reverse=True)) if isinstance(budget_ms, Sequence) else (budget_ms,)
