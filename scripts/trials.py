"""The finished evaluations of a search, from its study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pandas as pd
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from scripts.errors import NothingEvaluated, RecordCorrupt


def finished_trials(study_file: Path) -> pd.DataFrame:
    """One row an evaluation: `number`, `candidate` (JSON), `accuracy` (percent, fast evaluation), `predicted_ms`.

    Raises:
        RecordCorrupt: the file is damaged, or holds no study.
        NothingEvaluated: no evaluation is finished.
    """
    try:
        with _opened(study_file) as storage:
            (name,) = optuna.get_all_study_names(storage)
            study = optuna.load_study(study_name=name, storage=storage)
            trials = study.get_trials(deepcopy=False)
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ValueError) as error:
        raise RecordCorrupt(study_file, str(error)) from error
    finished = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if not finished:
        raise NothingEvaluated(study_file, [trial.user_attrs.get("failure", "it was stopped") for trial in trials])
    columns = ("candidate", "accuracy", "predicted_ms")
    return pd.DataFrame(
        {"number": trial.number, **{column: trial.user_attrs[column] for column in columns}} for trial in finished
    )


@contextmanager
def _opened(study_file: Path) -> Iterator[RDBStorage]:
    """Its storage; when it is closed, nothing is left of SQLite's log beside the file."""
    storage = RDBStorage(f"sqlite:///{study_file}")
    try:
        yield storage
    finally:
        storage.engine.dispose()
