"""`npas prune` on real digits with a small network: killed, gone on with, and every form of a plan."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from rich.console import Console
from safetensors.torch import load_file, save_file

from compiler import load_compiled
from compiler.errors import UnsupportedOperator
from latency_model import KernelStore
from pruning import Sparsity, shrink
from pruning.errors import (
    BudgetTooSmall,
    InvalidRate,
    NothingToPrune,
    UnknownModule,
    UnknownScheme,
    UnsupportedLayer,
    ZeroWeights,
)
from scripts import cli
from scripts.errors import (
    CheckpointMismatch,
    DatasetNotFound,
    InvalidSetting,
    ModelNotFound,
    NotRunnable,
    PlanUnreadable,
)
from scripts.prune import check, report
from scripts.prune.measured import PruneMetrics
from scripts.prune.plan_text import parse_plan
from scripts.user_model import load_model
from search.errors import BudgetError
from training import evaluate, load_dataset
from training.errors import DataMismatch

pytestmark = pytest.mark.timeout(600)  # several processes, one after the other

ROOT = Path(cli.__file__).parents[1]
NETWORK = """
import torch
from torch import nn
from training import load_dataset

def conv(i, o, s):
    return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())

def build():
    torch.manual_seed(0)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    return nn.Sequential(conv(1, 16, 2), conv(16, 32, 1), conv(32, 64, 2), *head)

def small():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

def empty():
    model = build()
    model[1][0].weight.data.zero_()
    return model

def seven():
    return nn.Sequential(conv(1, 16, 2), conv(16, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7))

class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = build()

    def forward(self, x):
        return self.body(torch.fft.fft2(x).real)

def digits():
    return load_dataset("digits", validation=0.3)

def number():
    return 7
"""
QUICK = ["threads=1", "seconds=0.1", "training.finetune.epochs=2", "training.finetune.batch_size=32"]
MAGNITUDE = ["pruning=magnitude", *QUICK]


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A user's file."""
    path = tmp_path_factory.mktemp("user") / "net.py"
    path.write_text(NETWORK)
    return path


def configuration(*overrides):
    with initialize_config_module("conf", version_base="1.3"):
        return compose("prune", overrides=list(overrides))


@pytest.fixture
def command(monkeypatch):
    """`npas prune` in this process, on a wide terminal, its arguments as they would be typed."""
    monkeypatch.setattr(sys, "argv", ["npas"])
    monkeypatch.setattr(report, "console", Console(width=220, highlight=False))

    def run(*overrides):
        cli.main(["prune", *map(str, overrides)])

    return run


def panel(capsys):
    """What an error panel says, without its frame and its line breaks."""
    return "".join(line.strip("│╭╮╰╯─ ") for line in capsys.readouterr().err.splitlines())


class Story:
    """A run for a budget that was killed twice until it was finished."""

    def __init__(self, net, run_dir):
        self.run_dir = run_dir
        self.overrides = [
            *(f"model={net}:build", "data=digits", "budget=70%", f"run_dir={run_dir}"),
            *("menu.schemes=['filter(8)','block_kernel(16x1)']", "menu.rates=[2,4]", "importance=taylor"),
            *("profile.kernels=24", "profile.held_out=4", "profile.networks=1", "profile.seconds=0.05"),
            *("pruning=gradual", "pruning.epochs=2", "pruning.options={begin: 0, epochs: 2}"),
            *("threads=1", "seconds=0.2", "training.finetune.epochs=4", "training.finetune.batch_size=32"),
        ]
        self.kill_when(lambda: len(list((run_dir / "kernels.parquet").glob("part-*"))) >= 1)
        self.kernels_when_killed = KernelStore(run_dir / "kernels.parquet").read()
        self.kill_when(lambda: (run_dir / "pruned" / "unfinished" / "pruning.safetensors").exists())
        self.plan_when_killed = (run_dir / "plan.json").read_bytes()
        finished = self.start()
        self.output, _ = finished.communicate()
        assert finished.returncode == 0, self.output

    def start(self):
        command = [sys.executable, "-m", "scripts.prune", *self.overrides]
        environment = {**os.environ, "COLUMNS": "220"}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def kill_when(self, reached, limit_s=200):
        process, end = self.start(), time.monotonic() + limit_s
        while not reached():
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def story(net, tmp_path_factory):
    return Story(net, tmp_path_factory.mktemp("budget") / "run")


@pytest.fixture(scope="module")
def metrics(story):
    return PruneMetrics.read(story.run_dir / "metrics.json")


def test_what_was_done_before_a_kill_is_kept(story):
    rows = KernelStore(story.run_dir / "kernels.parquet").read()
    kept = story.kernels_when_killed
    assert len(kept) > 0
    assert rows.head(len(kept))["median_us"].tolist() == kept["median_us"].tolist()
    assert (story.run_dir / "plan.json").read_bytes() == story.plan_when_killed
    assert "profile: done before, skipped" in story.output
    assert "plan: done before, skipped" in story.output
    assert "train: goes on where it was stopped" in story.output
    assert not (story.run_dir / "pruned" / "unfinished").exists()


def test_the_plan_was_predicted_and_measured_within_the_budget_before_the_training(story):
    plan = json.loads((story.run_dir / "plan.json").read_text())
    assert plan["plan"]
    assert set(plan["plan"].values()) <= {"filter(8)@2", "filter(8)@4", "block_kernel(16x1)@2", "block_kernel(16x1)@4"}
    (taken,) = [attempt for attempt in plan["attempts"] if attempt["predicted_ms"] == plan["predicted_ms"]]
    assert taken["measured_ms"] <= taken["budget_ms"]
    assert plan["predicted_lower_ms"] <= plan["predicted_ms"] <= plan["predicted_upper_ms"]


def test_weights_library_and_onnx_file_compute_the_same(story, net):
    folder = story.run_dir / "pruned"
    model = load_model(f"{net}:build").eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = model(x).detach()
    scale = float(expected.abs().max())
    assert float((load_compiled(folder)(x) - expected).abs().max()) <= 1e-4 * scale
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * scale)
    shrink(model, x[:1])
    np.testing.assert_allclose(model(x).detach().numpy(), expected.numpy(), atol=1e-5 * scale)


def test_the_layers_have_the_planned_sparsity(story, metrics, net):
    plan = json.loads((story.run_dir / "plan.json").read_text())["plan"]
    state = load_file(story.run_dir / "pruned" / "model.safetensors")
    model = load_model(f"{net}:build")
    for layer in metrics.layers:
        weight = state[f"{layer.name}.weight"]
        assert layer.sparsity == plan.get(layer.name, "dense")
        assert layer.kept >= int((weight != 0).sum())
        if layer.name in plan:
            sparsity = Sparsity.parse(plan[layer.name])
            shape = model.get_submodule(layer.name).weight.shape
            groups = sparsity.scheme.group_count(shape)
            assert layer.kept / layer.weights == pytest.approx(
                sparsity.scheme.kept_groups(shape, sparsity.rate) / groups
            )
            assert layer.skipped == ""
        else:
            assert layer.skipped


def test_metrics_say_what_the_files_are(story, metrics, net):
    data = load_dataset("digits", validation=0.25)
    model = load_model(f"{net}:build").eval()
    model.load_state_dict(load_file(story.run_dir / "pruned" / "model.safetensors"))
    assert metrics.validation_accuracy == evaluate(model, data.validation).accuracy
    assert metrics.test_accuracy == evaluate(model, data.test).accuracy
    assert metrics.epochs == 4
    assert metrics.onnx_bytes == (story.run_dir / "pruned" / "model.onnx").stat().st_size
    assert metrics.budget_ms == pytest.approx(0.7 * metrics.dense_ms)
    assert all(layer.measured_ms > 0 for layer in metrics.layers)
    assert all(layer.predicted_ms > 0 for layer in metrics.layers)
    stored = json.loads((story.run_dir / "metrics.json").read_text())
    assert stored["within_budget"] == (metrics.measured_ms <= metrics.budget_ms)


def test_table_and_report_list_every_layer(story, metrics):
    page = (story.run_dir / "report.html").read_text()
    for layer in metrics.layers:
        assert f">{layer.name}</td>" in page
        assert any(line.split()[:2] == [layer.name, layer.sparsity] for line in story.output.splitlines())
        assert not layer.skipped or f"{layer.name} stays dense: {layer.skipped}" in story.output
    for heading in ("predicted,", "measured,"):
        assert f"<th>{heading}\nms</th>" in page
        assert heading in story.output
    assert "why dense" in page


def test_a_finished_run_is_not_run_again_and_another_budget_keeps_the_measured_kernels(story, command, capsys):
    before = {path: path.stat().st_mtime_ns for path in story.run_dir.rglob("*.safetensors")}
    command(*story.overrides)
    assert capsys.readouterr().out.count("done before, skipped") == 6
    assert before == {path: path.stat().st_mtime_ns for path in story.run_dir.rglob("*.safetensors")}
    with pytest.raises(SystemExit, match="2"):
        command(*story.overrides, "budget=0.0001ms")
    shown = panel(capsys)
    assert BudgetTooSmall.__name__ in shown
    assert "the fastest choice takes" in shown
    assert (story.run_dir / "kernels.parquet").exists()


def test_a_predictor_that_is_there_is_used(story, command, net, tmp_path, capsys):
    overrides = [
        text for text in story.overrides if not text.startswith(("run_dir", "profile", "pruning", "importance"))
    ]
    command(*overrides, f"predictor={story.run_dir / 'predictor'}", f"run_dir={tmp_path / 'run'}", *MAGNITUDE)
    assert not (tmp_path / "run" / "kernels.parquet").exists()
    assert PruneMetrics.read(tmp_path / "run" / "metrics.json").predicted_ms > 0
    assert "profile" not in capsys.readouterr().out


def test_one_word_prunes_every_layer_that_can_take_it(net, command, tmp_path, capsys):
    run_dir = tmp_path / "run"
    command(
        f"model={net}:build", f"dataset={net}:digits", "plan=block_punched(16x1)@4", *MAGNITUDE, f"run_dir={run_dir}"
    )
    shown = capsys.readouterr().out
    layers = {layer.name: layer for layer in PruneMetrics.read(run_dir / "metrics.json").layers}
    assert {name: layer.sparsity for name, layer in layers.items()} == {
        "0.0": "dense",
        "1.0": "block_punched(16x1)@4",
        "2.0": "block_punched(16x1)@4",
        "5": "dense",
    }
    assert "first convolution" in layers["0.0"].skipped
    assert all(layer.predicted_ms is None for layer in layers.values())
    assert any(line.split()[:2] == ["1.0", "block_punched(16x1)@4"] for line in shown.splitlines())


def test_a_file_names_layers_and_without_data_nothing_is_claimed(net, command, tmp_path, capsys):
    plan, run_dir = tmp_path / "plan.yaml", tmp_path / "run"
    plan.write_text("1: {0: filter(8)@2}\n'2.*': block_kernel(16x1)@2\n")
    overrides = [f"model={net}:build", "input=[1,1,32,32]", f"plan={plan}", *MAGNITUDE, f"run_dir={run_dir}"]
    command(*overrides)
    shown = capsys.readouterr().out
    assert "its accuracy is not measured" in shown
    assert "Accuracy was not measured" in shown
    metrics = PruneMetrics.read(run_dir / "metrics.json")
    assert (metrics.test_accuracy, metrics.validation_accuracy, metrics.epochs) == (None, None, 0)
    assert {layer.name: layer.sparsity for layer in metrics.layers}["2.0"] == "block_kernel(16x1)@2"
    assert metrics.parameters < metrics.dense_parameters
    plan.write_text("1: {0: filter(8)@4}\n")
    command(*overrides)
    assert "plan: outputs of another configuration moved" in capsys.readouterr().out
    assert (run_dir / "previous").exists()


def test_a_mapping_on_the_command_line_is_a_plan_too():
    config = configuration("plan={1: {0: filter@2}, 2.*: 'nm(2:4)@2'}")
    expected = {"1.0": Sparsity("filter", 2), "2.*": Sparsity("nm(2:4)", 2)}
    assert parse_plan(config.plan) == expected


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        (["plan=pnuched@5"], UnknownScheme, "block_punched"),
        (["plan=filter@0.5"], InvalidRate, "0.5"),
        (["plan={1: {0: filter@9000}}"], UnsupportedLayer, "less than one"),
        (["plan={1: {0: 'block_kernel(64x64)@2'}}"], UnsupportedLayer, "as large as the layer"),
        (["plan={1: {00: filter@2}}"], UnknownModule, "did you mean"),
        (["plan={1.1: filter@2}"], PlanUnreadable, "quote the name"),
        (["plan=nowhere.yaml"], PlanUnreadable, "there is no file"),
        (["plan={1: {0: 3}}"], PlanUnreadable, "is not a sparsity"),
        (["plan=filter@2", "model={net}:small"], NothingToPrune, "no layer"),
        (["plan=filter@2", "model={net}:empty"], ZeroWeights, "1.0"),
        (["plan=filter@2", "model={net}:biuld"], ModelNotFound, "near: build"),
        (
            ["plan=filter@2", "checkpoint={net.parent}/other.safetensors"],
            CheckpointMismatch,
            "the network has 0.0.weight",
        ),
        (["plan=filter@2", "budget=50%"], InvalidSetting, "not both"),
        ([], InvalidSetting, "one of plan"),
        (["budget=fast"], BudgetError, "fast"),
        (["budget=50%", "menu.rates=[1]"], NothingToPrune, "nothing but dense"),
        (["plan=filter@2", "model={net}:seven", "data=digits"], DataMismatch, "10 classes"),
        (["plan={body.1.0: 'nm(2:4)@2'}", "model={net}:Fourier"], UnsupportedOperator, "complex"),
        (["plan=filter@2", "input=[1,3,32,32]"], NotRunnable, "got 3 channels"),
        (["plan=filter@2", "pruning=admm"], InvalidSetting, "there are no data"),
        (["plan=filter@2", "input=7"], InvalidSetting, "input"),
        (["plan=filter@2", "dataset={net}:number"], DatasetNotFound, "returned int"),
        (["plan=filter@2", "data=digits", "dataset={net}:digits"], InvalidSetting, "not both"),
        (["plan=filter@2", "data=digits", "pruning.epochs=99"], InvalidSetting, "below training.finetune.epochs"),
        (["budget=50%", "importance=taylor"], InvalidSetting, "measured and taylor need data"),
    ],
)
def test_what_cannot_work_is_named_before_anything_is_written(net, tmp_path, overrides, error, said):
    save_file({"x": torch.ones(1)}, net.parent / "other.safetensors")
    given = [text.replace("{net}", str(net)).replace("{net.parent}", str(net.parent)) for text in overrides]
    base = [f"model={net}:build", "input=[1,1,32,32]", "pruning=magnitude", f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(error, match=said):
        check.check(configuration(*base, *given))
    assert not (tmp_path / "run").exists()


def test_the_help_shows_every_setting(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        command("--help")
    text = capsys.readouterr().out
    assert "data: cifar10, digits, fashion_mnist" in text
    assert "tournament:" not in text
    for key in configuration():
        if key not in ("data", "device", "pruning", "training"):
            assert f"\n{key}:" in text
    cli.main(["--help"])
    assert "\n  prune " in capsys.readouterr().out


def test_every_value_that_a_stage_reads_is_in_the_configuration():
    from scripts.prune.stages import stages

    for overrides in (["plan=filter@2"], ["budget=50%"], ["budget=50%", "predictor=somewhere"]):
        config = configuration("data=digits", *overrides)
        OmegaConf.update(config, "files", check_files(), force_add=True)
        missing = object()
        for stage in stages(config):
            for key in stage.reads:
                assert OmegaConf.select(config, key, default=missing) is not missing, f"{stage.name} reads {key}"


def check_files():
    return dict.fromkeys(("model", "dataset", "checkpoint", "plan", "predictor"))
