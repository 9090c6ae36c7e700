"""The whole main job on a network of the user's own, and what is refused before anything is trained."""

import json
import math

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from compiler import load_compiled
from scripts import cli, networks
from scripts.metrics import Metrics
from scripts.report.sites import site_rows
from scripts.trials import finished_trials
from training import evaluate, load_dataset

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, stride=4, padding=1)
        self.inner = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.outer = nn.Conv2d(16, 16, 3, padding=1)
        self.act = nn.SiLU()
        self.classifier = nn.Linear(16, 10)

    def forward(self, x):
        x = self.act(self.stem(x))
        x = self.act(x + self.outer(self.act(self.bn(self.inner(x)))))
        return self.classifier(x.mean((2, 3)))


def build():
    torch.manual_seed(0)
    return Net()


def colour():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 30 * 30, 10))


def wrong_classes():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8 * 30 * 30, 7))


class Branching(Net):
    def forward(self, x):
        y = super().forward(x)
        return y if y.sum() > 0 else -y
"""
SMALL = [
    "space=own_model",
    "space.operators=[conv1x1,dw3x3_pw]",
    "space.schemes=['filter(8)','block_punched(16x1)']",
    "space.rates=[1,2]",
    "budget=300%",  # generous: this is no test of timings
    "threads=1",
    "profile.kernels=30",
    "profile.held_out=8",
    "profile.networks=6",
    "profile.seconds=0.05",
    "training.own_model.reconstruction_steps=5",
    "search.trials=4",
    "search.recalibration_batches=1",
    "search.steps=2",
    "search.pictures=100",
    "training.finetune.epochs=2",
    "pruning=magnitude",
    "winners.at_least=1",
    "winners.at_most=1",
    "winners.seconds=0.2",
]


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "net.py"
    path.write_text(NET)
    return path


@pytest.fixture(scope="module")
def run_dir(net):
    run_dir = net.parent / "run"
    cli.main(["search", *SMALL, f"model={net}:build", f"run_dir={run_dir}"])
    return run_dir


def test_it_ends_with_a_report_and_a_winner(run_dir):
    assert (run_dir / "report.html").exists()
    trials = finished_trials(run_dir / "study.db")
    assert len(trials) == 4
    assert trials["candidate"].is_unique
    metrics = json.loads((run_dir / "winners" / "1" / "metrics.json").read_text())
    assert metrics["measured_ms"] > 0


def test_saved_networks_load_and_compute_what_their_native_code_does(run_dir):
    config = OmegaConf.load(run_dir / "config.yaml")
    data = load_dataset("digits", "data", validation=0.25)
    for folder in (run_dir / "dense", run_dir / "winners" / "1"):
        network = networks.load(config, folder / "model.safetensors")
        known = json.loads((folder / "candidate.json").read_text())
        assert evaluate(network, data.validation).accuracy == known["validation_accuracy"]
        image = data.test.images[:2]
        with torch.no_grad():
            expected = network(image)
        found = torch.from_numpy(load_compiled(folder)(image.numpy()))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_report_tells_layers_by_their_names(run_dir):
    metrics = Metrics.read(run_dir / "winners" / "1" / "metrics.json")
    rows = {row.where: row for row in site_rows(metrics)}
    assert {"inner", "outer", "width of inner", "classifier"} <= rows.keys()
    assert rows["inner"].measured_us > 0
    assert rows["width of inner"].measured_us == 0
    told = math.fsum(row.measured_us for row in rows.values())
    assert told <= math.fsum(kernel.measured_us for kernel in metrics.kernels) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["model={net}:wrong_classes"], "10 classes"),
        (["model={net}:Branching"], "torch.export cannot follow"),
        (["model={net}:build", "checkpoint={other}"], "not a checkpoint of this network"),
        (["model={net}:colour"], "cannot be run on a picture"),
        (["model={net}:build", "space=tiny"], "own_model"),
        ([], "model=None"),
        (["model={net}:build", "space.schemes=['channel(8)']"], "channel(8)"),
        (["model={net}:build", "training.own_model.hardening_lr=0"], "hardening_lr"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(net, tmp_path, capsys, changes, reason):
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    changes = [text.format(net=net, other=other) for text in changes]
    run_dir = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["search", "space=own_model", *changes, f"run_dir={run_dir}", f"data.root={tmp_path}"])
    assert stopped.value.code == 2
    said = " ".join(line.strip("│╭╮╰╯─ ") for line in capsys.readouterr().err.splitlines())
    assert reason in said
    assert not run_dir.exists()


def test_a_budget_that_no_candidate_meets_is_refused_before_the_network_is_prepared(run_dir, net, capsys):
    """Operators, schemes and rates are known once the predictor is; the training has not begun then."""
    before = (run_dir / "supernet.safetensors").stat().st_mtime_ns
    overrides = [*SMALL, f"model={net}:build", f"run_dir={run_dir}", "training.own_model.reconstruction_steps=6"]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["search", *overrides, "budget=0.00001ms"])
    assert stopped.value.code == 2
    assert "fastest candidate" in " ".join(capsys.readouterr().err.split())
    moved = list((run_dir / "previous").rglob("supernet.safetensors"))
    assert [path.stat().st_mtime_ns for path in moved] == [before]
    assert not (run_dir / "supernet.safetensors").exists()
