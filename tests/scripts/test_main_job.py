"""The whole main job on real digits with a very small space: killed, interrupted, gone on with, finished."""

import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from safetensors import safe_open

from compiler import load_compiled
from latency_model import KernelStore
from scripts import cli
from scripts.metrics import Metrics
from scripts.report.contents import Contents
from scripts.report.statements import next_steps
from scripts.run_directory import Record
from scripts.stages import STAGES
from scripts.trials import finished_trials
from supernet import Network
from training import evaluate, load_checkpoint, load_dataset, save_checkpoint

ROOT = Path(cli.__file__).parents[1]
TRIALS = 10
SMALL = [
    "threads=1",
    "budget=300%",  # generous: this is no test of timings
    "space.stem.channels=8",
    "space.head.channels=32",
    "space.stages=[{sites: 2, channels: 16, stride: 2, shortcut: false, activation: relu},"
    "{sites: 2, channels: 32, stride: 2, shortcut: true, activation: hard_swish}]",
    "space.operators=[conv1x1,conv3x3,dw3x3_pw]",
    "space.schemes=['filter(8)','block_punched(16x1)']",
    "space.rates=[1,2]",
    "profile.kernels=40",
    "profile.held_out=10",
    "profile.networks=9",
    "profile.seconds=0.05",
    "training.supernet.epochs=3",
    f"search.trials={TRIALS}",
    "training.finetune.epochs=3",
    "pruning.epochs=1",
    "pruning.options={rho: [0.1], epochs: 1, period: 1}",
    "winners.at_least=1",
    "winners.at_most=2",
    "winners.seconds=0.3",
]


def start(run_dir, *overrides):
    """The main job in a process of its own."""
    command = [sys.executable, "-m", "scripts.search", *SMALL, f"run_dir={run_dir}", *overrides]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_until(reached, process, limit_s=200):
    """Poll until `reached()`; the process must not end before."""
    end = time.monotonic() + limit_s
    while not reached():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def trials_done(study):
    """Finished trials of a study that another process writes."""
    if not study.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{study}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def panel(capsys):
    """What an error panel says, without its frame and its line breaks."""
    return "".join(line.strip("│╭╮╰╯─ ") for line in capsys.readouterr().err.splitlines())


class Story:
    """What happened to one run directory until it was finished."""

    def __init__(self, run_dir):
        self.run_dir = run_dir
        self.kernels_when_killed = self.killed_while_timing()
        self.message, self.code, self.trials_when_interrupted = self.interrupted_while_searching()
        finished = start(run_dir)
        self.output, _ = finished.communicate()
        assert finished.returncode == 0, self.output

    def killed_while_timing(self):
        process = start(self.run_dir)
        wait_until(lambda: len(list((self.run_dir / "kernels.parquet").glob("part-*"))) >= 2, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return KernelStore(self.run_dir / "kernels.parquet").read()

    def interrupted_while_searching(self):
        process = start(self.run_dir, f"search.trials={TRIALS - 2}")
        wait_until(lambda: trials_done(self.run_dir / "study.db") >= 3, process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        return output, process.returncode, finished_trials(self.run_dir / "study.db")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return Story(tmp_path_factory.mktemp("main") / "run")


@pytest.fixture(scope="module")
def run_dir(story):
    return story.run_dir


def again(run_dir, capsys, *overrides):
    """The same command once more, in this process; what it printed."""
    capsys.readouterr()
    cli.main(["search", *SMALL, f"run_dir={run_dir}", *overrides])
    return capsys.readouterr().out


def test_a_kill_loses_at_most_what_was_being_timed(story):
    rows = KernelStore(story.run_dir / "kernels.parquet").read()
    kept = story.kernels_when_killed
    assert len(kept) > 0
    pd.testing.assert_frame_equal(rows.head(len(kept)), kept)


def test_ctrl_c_says_how_to_go_on_and_keeps_finished_trials(story):
    assert story.code == 130
    assert "to go on: npas search" in story.message.replace("\n", " ")
    assert "Traceback" not in story.message
    kept = story.trials_when_interrupted
    assert 3 <= len(kept) < TRIALS - 2
    finished = finished_trials(story.run_dir / "study.db")
    pd.testing.assert_frame_equal(finished[finished["number"].isin(kept["number"])].reset_index(drop=True), kept)


def test_what_was_finished_is_skipped_and_the_search_goes_on_with_more_trials(story):
    for stage in ("profile", "predictor", "supernet"):
        assert f"{stage}: done before, skipped" in story.output
    assert f"search: goes on, from search.trials={TRIALS - 2} to {TRIALS}" in story.output
    assert Record.read(story.run_dir, "search").extent == TRIALS


def test_every_evaluation_is_of_another_candidate_under_the_budget(run_dir):
    trials = finished_trials(run_dir / "study.db")
    assert len(trials) == TRIALS
    assert trials["candidate"].is_unique
    dense_ms = json.loads((run_dir / "dense.json").read_text())["measured_ms"]
    assert (trials["predicted_ms"] <= 3.0 * dense_ms).all()


def test_a_command_that_the_report_proposes_repeats_all_settings_but_one(run_dir, capsys):
    command, *rest = shlex.split(dict(next_steps(Contents.read(run_dir), run_dir))["search on for longer"])[1:]
    capsys.readouterr()
    cli.main([command, *rest, "--cfg", "job", "--resolve"])
    proposed, run = OmegaConf.create(capsys.readouterr().out), OmegaConf.load(run_dir / "config.yaml")
    assert proposed.search.trials == 2 * TRIALS
    assert OmegaConf.merge(proposed, {"search": {"trials": TRIALS}}) == run


def test_the_run_directory_is_what_the_design_says(run_dir):
    names = {path.name for path in run_dir.iterdir()}
    assert names >= {
        "config.yaml",
        "overrides.json",
        "log.jsonl",
        "study.db",
        "kernels.parquet",
        "predictor",
        "supernet.safetensors",
        "winners",
        "dense",
        "report.html",
        "pareto.png",
    }
    for folder in (run_dir / "dense", *sorted((run_dir / "winners").iterdir())):
        assert {path.name for path in folder.iterdir()} >= {
            "candidate.json",
            "model.safetensors",
            "model.onnx",
            "kernels.c",
            "libmodel.so",
            "metrics.json",
        }
        assert not (folder / "unfinished").exists()
    for line in (run_dir / "log.jsonl").read_text().splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()
    for stage in STAGES:
        assert Record.read(run_dir, stage.name).finished


def test_weights_library_and_onnx_file_are_the_same_network(run_dir):
    images = load_dataset("digits").test.images[:5]
    for folder in (run_dir / "dense", *sorted((run_dir / "winners").iterdir())):
        network = Network.load(folder / "model.safetensors").eval()
        with torch.no_grad():
            expected = network(images).numpy()
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        (exported,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        scale = np.abs(expected).max()
        np.testing.assert_allclose(load_compiled(folder)(images.numpy()), expected, atol=1e-3 * scale, rtol=0)
        np.testing.assert_allclose(exported, expected, atol=1e-3 * scale, rtol=0)


def test_metrics_are_those_of_the_files(run_dir):
    test = load_dataset("digits").test
    dense = Metrics.read(run_dir / "dense" / "metrics.json")
    for folder in sorted((run_dir / "winners").iterdir()):
        metrics = Metrics.read(folder / "metrics.json")
        network = Network.load(folder / "model.safetensors").eval()
        assert metrics.test_accuracy == pytest.approx(evaluate(network, test).accuracy)
        assert metrics.parameters == sum(weight.numel() for weight in network.parameters())
        assert metrics.onnx_bytes == (folder / "model.onnx").stat().st_size
        assert metrics.dense_ms == dense.measured_ms
        assert metrics.budget_ms == pytest.approx(3 * dense.measured_ms)
        assert {kernel.site for kernel in metrics.kernels} == {None, 0, 1, 2, 3}


def test_masks_of_the_winners_hold(run_dir):
    for folder in sorted((run_dir / "winners").iterdir()):
        network = Network.load(folder / "model.safetensors")
        for name, sparsity in network.plan.items():
            weight = network.get_parameter(f"{name}.weight")
            groups = sparsity.scheme.group_count(weight.shape)
            alive = torch.count_nonzero(sparsity.scheme.scores(weight.detach())).item()
            assert alive <= sparsity.scheme.kept_groups(weight.shape, sparsity.rate) < groups


def test_nothing_in_the_run_directory_needs_pickle(run_dir):
    for path in run_dir.rglob("*"):
        assert path.suffix not in {".pt", ".pth", ".pkl", ".pickle"}
        if path.suffix == ".safetensors":
            framework = "numpy" if path.name == "constants.safetensors" else "pt"
            with safe_open(path, framework=framework) as file:
                assert list(file.keys())


def test_a_winner_runs_without_torch(run_dir):
    code = (
        "import sys, numpy as np; from compiler import load_compiled;"
        f"print(load_compiled({str(run_dir / 'winners' / '1')!r})(np.ones((2, 1, 32, 32), np.float32)).shape,"
        "'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "(2, 10) False"


def test_the_same_command_again_does_nothing(run_dir, capsys):
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file()}
    shown = again(run_dir, capsys)
    assert shown.count("done before, skipped") == len(STAGES)
    changed = {path.name for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert changed <= {"config.yaml", "overrides.json", "log.jsonl", ".lock"}


def test_a_lost_winner_is_made_again(run_dir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    shutil.rmtree(copy / "winners")
    assert "finetune: winners missing, runs again" in again(copy, capsys)
    for name in ("model.safetensors", "metrics.json", "model.onnx"):
        assert (copy / "winners" / "1" / name).exists(), name


def test_a_tournament_chooses_the_algorithm_of_all_winners(run_dir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    left_out = [f"~tournament.entrants.{name}" for name in ("gradual", "admm", "smart")]
    shown = again(copy, capsys, "tournament=halving", "tournament.epochs=1", "winners.at_most=1", *left_out)
    assert "finetune: outputs of another configuration moved" in shown
    folder = copy / "winners" / "tournament"
    assert {path.name for path in folder.iterdir()} == {"result.json", "study.db"}
    result = json.loads((folder / "result.json").read_text())
    assert [(row["algorithm"], row["epochs"]) for row in result["table"]] == [("magnitude", 1), ("lookahead", 1)]
    best = max(result["table"], key=lambda row: row["accuracy"])
    assert result["winner"] == best["algorithm"]
    assert Metrics.read(copy / "winners" / "1" / "metrics.json").algorithm == result["winner"]
    assert Metrics.read(copy / "dense" / "metrics.json").algorithm is None
    assert "Which pruning algorithm" in (copy / "report.html").read_text()


def test_a_tournament_that_cannot_be_held_is_refused_before_anything_runs(tmp_path, capsys):
    with pytest.raises(SystemExit):
        again(tmp_path / "run", capsys, "tournament=halving", "tournament.first_rung=9")
    assert "first_rung is 9" in panel(capsys)
    with pytest.raises(SystemExit):
        again(tmp_path / "run", capsys, "tournament=halving")  # their long runs prune for more epochs than SMALL trains
    assert "tournament.long.gradual.epochs=6" in panel(capsys)
    assert not (tmp_path / "run").exists()


def test_a_damaged_supernet_is_named(run_dir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    content = (copy / "supernet.safetensors").read_bytes()
    (copy / "supernet.safetensors").write_bytes(content[: len(content) // 2])
    shutil.rmtree(copy / "winners")
    with pytest.raises(SystemExit, match="2"):
        again(copy, capsys)
    shown = panel(capsys)
    assert "CheckpointCorrupt" in shown
    assert "supernet.safetensors" in shown


def test_a_supernet_of_another_version_is_named(run_dir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    state = load_checkpoint(copy / "supernet.safetensors")["supernet"]
    state["stem.conv1.weight"] = state.pop("frame.largest.stem.conv1.weight")
    save_checkpoint(copy / "supernet.safetensors", {"supernet": state})
    shutil.rmtree(copy / "winners")
    with pytest.raises(SystemExit, match="2"):
        again(copy, capsys)
    shown = panel(capsys)
    assert "OtherSupernet" in shown
    assert "frame.largest.stem.conv1.weight" in shown
    assert "remove" in shown


def test_a_damaged_study_is_named(run_dir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    for part in copy.glob("study.db-*"):
        part.unlink()  # a write-ahead log that a reader still holds open would heal the damage
    content = bytearray((copy / "study.db").read_bytes())
    content[: len(content) // 2] = os.urandom(len(content) // 2)
    (copy / "study.db").write_bytes(content)
    (copy / "report.html").unlink()
    with pytest.raises(SystemExit, match="2"):
        again(copy, capsys)
    shown = panel(capsys)
    assert "study.db" in shown
    assert "Traceback" not in shown


def test_a_budget_below_every_candidate_says_what_the_fastest_takes(run_dir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    with pytest.raises(SystemExit, match="2"):
        again(copy, capsys, "budget=0.0001ms")
    shown = panel(capsys)
    assert "InfeasibleBudget" in shown
    assert "ms" in shown
