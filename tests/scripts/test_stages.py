"""What the stages of the main job leave behind when they are killed, and where it goes."""

import shutil
from dataclasses import replace

import optuna
from omegaconf import OmegaConf

from scripts import supernet
from scripts.run_directory import Record, RunDirectory
from scripts.stages import STAGES
from scripts.trials import finished_trials
from search.study import database

BY_NAME = {stage.name: stage for stage in STAGES}


def move_away(run_dir, name):
    """The stage was begun with another configuration than that with which it is run now; the folder of before."""
    stage = replace(BY_NAME[name], reads=("value",), after=(), grows=None, run=lambda config, run_dir: None)
    Record(name, "fingerprint", {}, "0.1", "2026-01-01T00:00:00+00:00").write(run_dir)
    RunDirectory(run_dir, print).perform([stage], OmegaConf.create({"value": 1}), [name])
    return run_dir / "previous" / "fingerprint"


def test_trials_of_a_killed_search_go_where_its_study_goes(tmp_path):
    """SQLite keeps them in a log of its own until the file is closed."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    storage = database(tmp_path / "study.db")
    study = optuna.create_study(storage=storage, study_name="npas")
    attributes = {"candidate": "[]", "accuracy": 1.0, "predicted_ms": 1.0}
    study.add_trials([optuna.trial.create_trial(value=1.0, user_attrs=attributes)] * 3)
    for path in tmp_path.glob("study.db*"):
        shutil.copy(path, run_dir)  # as a kill would leave them
    storage.engine.dispose()
    assert (run_dir / "study.db-wal").stat().st_size > 0
    kept = move_away(run_dir, "search")
    assert list(run_dir.glob("study.db*")) == []
    assert len(finished_trials(kept / "study.db")) == 3


def test_the_state_of_a_supernet_in_training_goes_with_its_configuration(tmp_path):
    (tmp_path / supernet.UNFINISHED).write_text("half")
    kept = move_away(tmp_path, "supernet")
    assert not (tmp_path / supernet.UNFINISHED).exists()
    assert (kept / supernet.UNFINISHED).read_text() == "half"
