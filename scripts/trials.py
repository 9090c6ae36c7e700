"""The finished evaluations of a search, from its study."""

from __future__ import annotations

from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from scripts.errors import RecordCorrupt


def finished_trials(study_file: Path) -> pd.DataFrame:
    """One row an evaluation: `number`, `candidate` (JSON), `accuracy` (percent, fast evaluation), `predicted_ms`.

    Raises:
        RecordCorrupt: the file is damaged, or holds no study.
    """
    storage = f"sqlite:///{study_file}"
    try:
        (name,) = optuna.get_all_study_names(storage)
        study = optuna.load_study(study_name=name, storage=storage)
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ValueError) as error:
        raise RecordCorrupt(study_file, str(error)) from error
    columns = ("candidate", "accuracy", "predicted_ms")
    return pd.DataFrame(
        {"number": trial.number, **{column: trial.user_attrs[column] for column in columns}} for trial in finished
    )
