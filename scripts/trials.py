"""The finished evaluations of a search, from its study."""

from __future__ import annotations

from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import TrialState


def finished_trials(study_file: Path) -> pd.DataFrame:
    """One row an evaluation: `number`, `candidate` (JSON), `accuracy` (percent, fast evaluation), `predicted_ms`."""
    storage = f"sqlite:///{study_file}"
    (name,) = optuna.get_all_study_names(storage)
    finished = optuna.load_study(study_name=name, storage=storage).get_trials(
        deepcopy=False, states=(TrialState.COMPLETE,)
    )
    columns = ("candidate", "accuracy", "predicted_ms")
    return pd.DataFrame(
        {"number": trial.number, **{column: trial.user_attrs[column] for column in columns}} for trial in finished
    )
