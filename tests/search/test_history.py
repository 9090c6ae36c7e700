from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from search.encoding import Code, Encoding
from search.errors import StudyMismatch, UnsupportedStudy
from search.history import RETRY_OF, History, Ledger, Observation, read_history
from supernet import SearchSpace


@pytest.fixture
def encoding(toy: SearchSpace) -> Encoding:
    return Encoding(toy)


def _add(study: optuna.Study, encoding: Encoding, code: Code, value: float | None, **attrs: int) -> None:
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    study.add_trial(
        optuna.create_trial(
            state=state,
            value=value,
            params=encoding.params(code),
            distributions=encoding.distributions(),
            user_attrs=attrs,
        )
    )


def test_observations_come_in_order_and_failures_as_the_worst(encoding: Encoding) -> None:
    study = optuna.create_study(direction="maximize")
    _add(study, encoding, (0, 0, 0), None)
    _add(study, encoding, (1, 2, 3), 90.0)
    _add(study, encoding, (3, 2, 1), 80.0)
    history = read_history(study, encoding)
    assert history.observations == (
        Observation((0, 0, 0), 80.0),
        Observation((1, 2, 3), 90.0),
        Observation((3, 2, 1), 80.0),
    )
    assert history.ranked[0].code == (1, 2, 3)


def test_minimised_studies_are_turned_round(encoding: Encoding) -> None:
    study = optuna.create_study(direction="minimize")
    _add(study, encoding, (1, 2, 3), 0.1)
    _add(study, encoding, (3, 2, 1), 0.2)
    assert read_history(study, encoding).ranked[0] == Observation((1, 2, 3), -0.1)


def test_running_and_enqueued_trials_are_pending_except_the_asking_one(encoding: Encoding) -> None:
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial(dict(encoding.params((5, 5, 5))))
    assert read_history(study, encoding).pending == ((5, 5, 5),)
    trial = study.ask(dict(encoding.distributions()))
    assert read_history(study, encoding).pending == ((5, 5, 5),)
    (frozen,) = study.get_trials()
    assert read_history(study, encoding, frozen) == History()
    study.tell(trial, 1.0)
    assert read_history(study, encoding).pending == ()


def test_interrupted_trial_with_a_successor_leaves_no_trace(encoding: Encoding) -> None:
    study = optuna.create_study(direction="maximize")
    _add(study, encoding, (1, 2, 3), None)
    assert len(read_history(study, encoding)) == 1
    _add(study, encoding, (1, 2, 3), 90.0, **{RETRY_OF: 0})
    assert read_history(study, encoding) == History((Observation((1, 2, 3), 90.0),))


def test_study_with_several_objectives_is_refused(encoding: Encoding) -> None:
    with pytest.raises(UnsupportedStudy, match="2 objectives"):
        read_history(optuna.create_study(directions=["maximize", "minimize"]), encoding)


def test_study_of_another_space_is_refused(encoding: Encoding, tiny: SearchSpace) -> None:
    study = optuna.create_study(direction="maximize")
    other = Encoding(tiny)
    _add(study, other, other.code(tiny.smallest()), 50.0)
    with pytest.raises(StudyMismatch, match="site_00"):
        read_history(study, encoding)


def test_a_ledger_that_is_kept_up_is_what_the_study_would_say(encoding: Encoding) -> None:
    """Twenty trials, three at a time, which end in another order than they began, every fourth of them in failure."""
    study = optuna.create_study(direction="maximize")
    _add(study, encoding, (0, 0, 0), 70.0)
    ledger = Ledger.read(study, encoding)
    rng = np.random.default_rng(0)
    running: list[optuna.Trial] = []
    for number in range(1, 21):
        code = (number % 6, number // 6, 5)
        study.enqueue_trial(dict(encoding.params(code)))
        assert ledger.next_number == number
        ledger.begin(number, code)
        running.append(study.ask(dict(encoding.distributions())))
        if len(running) == 3:
            ended = running.pop(int(rng.integers(3)))
            value = None if ended.number % 4 == 0 else 60.0 + ended.number
            study.tell(ended, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)
            ledger.end(ended.number, value)
        assert ledger.history == read_history(study, encoding)
    assert len(ledger.history.pending) == 2
    assert {observation.reward for observation in ledger.history.observations} > {61.0, 62.0}
