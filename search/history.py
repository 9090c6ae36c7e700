"""What a study has seen so far: the only state that a sampler has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.encoding import Code, Encoding
from search.errors import UnsupportedStudy

RETRY_OF = "retry_of"
"""User attribute of a trial that repeats an interrupted one: the number of that trial."""

PROPOSAL = "npas:proposal"
"""System attribute with the code a sampler proposed, so that other workers see it before its parameters are set."""


@dataclass(frozen=True)
class Observation:
    """One finished evaluation; a larger reward is better."""

    code: Code
    reward: float


@dataclass(frozen=True)
class History:
    """Finished evaluations in the order of their trials, and the candidates that are being evaluated now.

    Attributes:
        observations: evaluations of candidates under the budget.
        pending: candidates under the budget that are being evaluated.
        evaluated: all evaluations, of candidates over the budget too, where a study has several budgets. The
            observations, if not given.
    """

    observations: tuple[Observation, ...] = ()
    pending: tuple[Code, ...] = ()
    evaluated: tuple[Observation, ...] = ()

    def __post_init__(self) -> None:
        if not self.evaluated:
            object.__setattr__(self, "evaluated", self.observations)

    def __len__(self) -> int:
        """Number of candidates under the budget that were proposed, finished or not."""
        return len(self.observations) + len(self.pending)

    def under(self, admits: Callable[[Code], bool]) -> History:
        """The same evaluations as seen from a lower budget."""
        return History(
            tuple(observation for observation in self.observations if admits(observation.code)),
            tuple(code for code in self.pending if admits(code)),
            self.evaluated,
        )

    @cached_property
    def seen(self) -> frozenset[Code]:
        """Every candidate that was proposed, finished or not."""
        return frozenset(o.code for o in self.evaluated) | frozenset(self.pending)

    @cached_property
    def ranked(self) -> tuple[Observation, ...]:
        """Observations from best to worst, the earlier first among equals."""
        return tuple(sorted(self.observations, key=lambda o: -o.reward))


class Ledger:
    """The candidates of a study by the number of their trial.

    Read once and kept up by whoever writes the study, it gives the history that the study would give if it were read
    again, which a database takes milliseconds for.
    """

    def __init__(self) -> None:
        self.next_number = 0
        """Of the trial that is created next: Optuna counts them."""
        self._finished: dict[int, tuple[Code, float | None]] = {}
        self._pending: dict[int, Code] = {}

    @classmethod
    def read(cls, study: optuna.Study, encoding: Encoding, trial: FrozenTrial | None = None) -> Ledger:
        """What a study holds, without `trial` itself; see `read_history`."""
        if len(study.directions) != 1:
            raise UnsupportedStudy(
                f"the study has {len(study.directions)} objectives; npas samplers maximise or minimise one: "
                "use the reward as the objective and read the Pareto set from the trials"
            )
        sign = 1.0 if study.direction is StudyDirection.MAXIMIZE else -1.0
        trials = study.get_trials(deepcopy=False)
        left_out = {t.user_attrs[RETRY_OF] for t in trials if RETRY_OF in t.user_attrs}
        if trial is not None:
            left_out |= {trial.number, trial.user_attrs.get(RETRY_OF)}
        ledger = cls()
        for t in trials:
            ledger.next_number = t.number + 1
            code = None if t.number in left_out else code_of(t, encoding)
            if code is None:
                continue
            ledger.begin(t.number, code)
            if t.state.is_finished():
                value = t.value if t.state is TrialState.COMPLETE else None
                ledger.end(t.number, None if value is None else sign * value)
        return ledger

    def begin(self, number: int, code: Code) -> None:
        """A trial waits or runs."""
        self._pending[number] = code
        self.next_number = max(self.next_number, number + 1)

    def end(self, number: int, reward: float | None) -> None:
        """A trial is over; None if its evaluation failed."""
        self._finished[number] = (self._pending.pop(number), reward)

    @property
    def history(self) -> History:
        """In the order of the trials' numbers; a failed evaluation has the worst reward seen."""
        finished = [self._finished[number] for number in sorted(self._finished)]
        worst = min((reward for _, reward in finished if reward is not None), default=0.0)
        observations = tuple(Observation(code, worst if reward is None else reward) for code, reward in finished)
        return History(observations, tuple(self._pending[number] for number in sorted(self._pending)))


def read_history(study: optuna.Study, encoding: Encoding, trial: FrozenTrial | None = None) -> History:
    """The history of a study, without `trial` itself.

    A failed evaluation enters with the worst reward seen, as it will not be tried again; the remains of an
    interrupted trial that has a successor (`RETRY_OF`) do not enter at all.

    Raises:
        UnsupportedStudy: the study has several objectives.
        StudyMismatch: a trial holds a choice that the space does not offer.
    """
    return Ledger.read(study, encoding, trial).history


def code_of(trial: FrozenTrial, encoding: Encoding) -> Code | None:
    """The candidate of a trial; None if it ended before it had one."""
    code = encoding.from_params({**trial.system_attrs.get("fixed_params", {}), **trial.params})
    return code or tuple(trial.system_attrs.get(PROPOSAL, ())) or None
