"""Which candidates become winners, with nothing trained: networks that measure as they are told."""

import json

import optuna
import pytest
from omegaconf import OmegaConf

from scripts import finetune
from scripts.errors import NothingEvaluated, NoWinner
from scripts.files import read_json, write_json

CANDIDATES = [json.dumps([f"{operator}|dense|1"]) for operator in ("conv3x3", "dw3x3_pw", "conv1x1")]
CONFIG = OmegaConf.create(
    {"budget": "50%", "winners": {"at_least": 2, "at_most": 2, "pareto": 1, "margin": 0.02}, "cluster": None}
)


@pytest.fixture
def run_dir(tmp_path):
    study = optuna.create_study(study_name="npas", storage=f"sqlite:///{tmp_path / 'study.db'}", direction="maximize")
    for number, candidate in enumerate(CANDIDATES):
        attributes = {"candidate": candidate, "accuracy": 90.0 - number, "predicted_ms": 0.4 - 0.01 * number}
        study.add_trial(optuna.trial.create_trial(value=90.0 - number, user_attrs=attributes))
    write_json(tmp_path / "dense.json", {"measured_ms": 1.0})
    return tmp_path


@pytest.fixture
def measured(monkeypatch):
    """Milliseconds of the candidates, beside 1 ms of the dense network."""
    times = dict.fromkeys(CANDIDATES, 0.3)

    class Tuner:
        def __init__(self, config, run_dir):
            (run_dir / "dense").mkdir(exist_ok=True)

        def measure(self, candidate):
            return times[candidate.to_json()], 1.0

        def prune(self, candidate, folder, supernet_accuracy):
            if not times[candidate.to_json()]:
                (folder / "unfinished").mkdir(parents=True)
                raise KeyboardInterrupt
            assert not (folder / "unfinished").exists()
            content = {"candidate": [str(choice) for choice in candidate.choices], "validation_accuracy": 90.0}
            write_json(folder / "candidate.json", content)

    monkeypatch.setattr(finetune, "Tuner", Tuner)
    return times


def winners(run_dir):
    """Candidates by the numbers of their folders."""
    return {
        path.parent.name: json.dumps(read_json(path)["candidate"])
        for path in (run_dir / "winners").glob("*/candidate.json")
    }


def told(run_dir):
    """The same from the shortlist."""
    return {str(row["winner"]): row["candidate"] for row in read_json(run_dir / "shortlist.json") if row["winner"]}


def test_a_lost_shortlist_gives_no_number_to_a_network_of_another_candidate(run_dir, measured):
    finetune.run(CONFIG, run_dir)
    assert winners(run_dir) == told(run_dir) == {"1": CANDIDATES[0], "2": CANDIDATES[1]}
    (run_dir / "shortlist.json").unlink()
    measured[CANDIDATES[0]] = 0.9
    finetune.run(CONFIG, run_dir)
    assert winners(run_dir) == told(run_dir) == {"1": CANDIDATES[1], "2": CANDIDATES[2]}
    assert len(list((run_dir / "previous").rglob("candidate.json"))) == 2


def test_a_training_that_was_stopped_is_not_gone_on_with_for_another_candidate(run_dir, measured):
    measured[CANDIDATES[0]] = 0
    with pytest.raises(KeyboardInterrupt):
        finetune.run(CONFIG, run_dir)
    (run_dir / "shortlist.json").unlink()
    measured[CANDIDATES[0]] = 0.9
    finetune.run(CONFIG, run_dir)
    assert winners(run_dir) == told(run_dir) == {"1": CANDIDATES[1], "2": CANDIDATES[2]}


def test_what_an_interrupted_run_trained_is_kept(run_dir, measured):
    measured[CANDIDATES[1]] = 0
    with pytest.raises(KeyboardInterrupt):
        finetune.run(CONFIG, run_dir)
    before = (run_dir / "winners" / "1" / "candidate.json").stat().st_mtime_ns
    (run_dir / "winners" / "2" / "unfinished").rmdir()
    measured[CANDIDATES[1]] = 0.3
    finetune.run(CONFIG, run_dir)
    assert (run_dir / "winners" / "1" / "candidate.json").stat().st_mtime_ns == before
    assert not (run_dir / "previous").exists()
    assert winners(run_dir) == told(run_dir) == {"1": CANDIDATES[0], "2": CANDIDATES[1]}


def test_no_winner_within_the_margin_says_what_the_margin_leaves(run_dir, measured):
    measured |= dict(zip(CANDIDATES, (0.9, 0.495, 0.7), strict=True))
    with pytest.raises(NoWinner, match=r"3 candidates met 0\.490 ms .*0\.500 ms less winners\.margin=0\.02.*0\.495 ms"):
        finetune.run(CONFIG, run_dir)


def test_a_search_of_which_every_evaluation_failed_is_named_with_the_reason(run_dir, measured):
    (run_dir / "study.db").unlink()
    study = optuna.create_study(study_name="npas", storage=f"sqlite:///{run_dir / 'study.db'}")
    failed = optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"failure": "the loss is nan"})
    study.add_trials([failed] * 2)
    with pytest.raises(NothingEvaluated, match=r"None of 2 evaluations .*the loss is nan.*search\.trials"):
        finetune.run(CONFIG, run_dir)
