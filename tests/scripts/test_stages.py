"""What the stages of the main job leave behind when they are killed, and where it goes."""

import shutil
from dataclasses import replace

import optuna
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from scripts import supernet
from scripts.run_directory import Record, RunDirectory
from scripts.stages import STAGES, stages_for
from scripts.trials import finished_trials
from scripts.user_files import note_files
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


def fingerprints(*overrides):
    """Of every stage, and what `config.yaml` says about the files."""
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("config", overrides=list(overrides))
    note_files(config)
    found = {}
    for stage in stages_for(config):
        found[stage.name] = stage.fingerprint(config, found)
    return found, OmegaConf.select(config, "files")


@pytest.mark.parametrize("changed", ["net.py", "weights.safetensors"])
def test_what_the_users_files_hold_decides_and_not_only_their_names(tmp_path, changed):
    for name in ("net.py", "weights.safetensors"):
        (tmp_path / name).write_text("before")
    overrides = ["space=own_model", f"model={tmp_path}/net.py:build", f"checkpoint={tmp_path}/weights.safetensors"]
    before, files = fingerprints(*overrides)
    assert fingerprints(*overrides) == (before, files)
    (tmp_path / changed).write_text("after")
    after, others = fingerprints(*overrides)
    assert files != others
    assert all(before[name] != after[name] for name in before)


def test_a_run_without_a_network_of_the_users_is_what_it_was_before_files_decided():
    found, files = fingerprints()
    assert files is None
    with initialize_config_module("conf", version_base="1.3"):
        assert found["profile"] == BY_NAME["profile"].fingerprint(compose("config"), {})


def test_a_file_that_is_not_there_is_left_to_whoever_loads_it(tmp_path):
    _, files = fingerprints("space=own_model", f"model={tmp_path}/net.py:build")
    assert files == {"model": None, "checkpoint": None}
