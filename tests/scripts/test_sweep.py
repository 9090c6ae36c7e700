"""Several searches as one job: which runs there are, what becomes of them, and their table."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from rich.console import Console

from scripts import cli, sweep
from scripts.errors import InvalidSweep, NoWinner
from scripts.sweep import Run, make_runs, table

_specification = importlib.util.spec_from_file_location("made_run", Path(__file__).with_name("made_run.py"))
made = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(made)


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """The folders that the main job was run in, instead of running it; all of them have the same results."""
    folders = []

    def run_command(command, config, *, overrides, others):
        assert command == "search"
        assert [one for one in overrides if one.startswith("seed=")] in ([], [f"seed={config.seed}"])
        run_dir = Path(config.run_dir)
        folders.append(config.run_dir)
        assert run_dir not in others
        if config.seed == 13:
            raise NoWinner(tried=4, budget_ms=0.5, margin=0.02, nearest_ms=0.495)
        if config.seed == 66:
            raise KeyboardInterrupt
        run_dir.mkdir(parents=True)
        made.write_run(run_dir)

    monkeypatch.setattr(sweep, "run_command", run_command)
    monkeypatch.setattr(sweep, "check", lambda config, command: folders.append(f"checked {config.budget}"))
    monkeypatch.setattr(sys, "argv", ["npas"])
    monkeypatch.setattr(sweep, "console", Console(width=160, highlight=False))
    monkeypatch.chdir(tmp_path)
    return folders


def test_each_combination_is_a_run_in_a_folder_of_its_own(ran, tmp_path, capsys):
    cli.main(["sweep", "budget=50%,[50%,25%]", "seed=range(2)", "cluster=ray", "run_dir=out"])
    assert ran == [
        *["checked 50%"] * 2,
        *["checked ['50%', '25%']"] * 2,
        "out/budget-50%_seed-0",
        "out/budget-50%_seed-1",
        "out/budget-50%-25%_seed-0",
        "out/budget-50%-25%_seed-1",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    shown = capsys.readouterr().out
    assert "run 4 of 4: budget=[50%,25%],seed=1" in shown
    assert shown.count("winners/1") == 4


def test_the_default_folder_is_that_of_a_single_run(ran):
    cli.main(["sweep", "seed=0,1", "space=mobile_cifar", "data=cifar10"])
    assert ran[2:] == ["runs/cifar10-mobile_cifar/seed-0", "runs/cifar10-mobile_cifar/seed-1"]


@pytest.mark.parametrize(
    ("overrides", "said"), [(["seed=1"], "no setting has several values"), (["seed=1,1"], "no setting has several")]
)
def test_a_single_run_is_no_sweep(ran, capsys, overrides, said):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["sweep", *overrides])
    shown = " ".join(line.strip("│ ") for line in capsys.readouterr().err.splitlines())
    assert "InvalidSweep" in shown
    assert said in shown
    assert ran == []


def test_the_configurations_are_shown_without_running(ran, capsys):
    cli.main(["sweep", "budget=50%,25%", "run_dir=out", "--cfg", "job", "--resolve"])
    shown = capsys.readouterr().out
    first, second = yaml.safe_load_all(shown)
    assert [first["budget"], second["budget"]] == ["50%", "25%"]
    assert [first["run_dir"], second["run_dir"]] == ["out/budget-50%", "out/budget-25%"]
    assert "# run 2 of 2: budget=25%" in shown
    assert ran == []


@pytest.mark.parametrize("option", ["--cfg=hydra", "--cfg", "--info", "-p"])
def test_options_that_are_for_one_configuration_are_refused(ran, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["sweep", "seed=0,1", option])
    shown = " ".join(line.strip("│ ") for line in capsys.readouterr().err.splitlines())
    assert "UnknownOption" in shown
    assert "--cfg job" in shown
    assert ran == []


def test_help_is_about_sweeps(ran, capsys):
    cli.main(["sweep", "seed=0,1", "--help"])
    text = capsys.readouterr().out
    assert text.startswith("npas sweep ")
    assert "npas search --help" in text
    assert ran == []


def test_runs_that_are_the_same_are_refused():
    config = OmegaConf.create({"run_dir": "runs/x"})
    composed = [(["seed=1"], config), (["seed=1"], config), (["seed=2"], config)]
    with pytest.raises(InvalidSweep, match="two of the runs are the same"):
        make_runs(composed)


def test_a_value_with_slashes_is_one_folder():
    config = OmegaConf.create({"run_dir": "runs/x"})
    runs = make_runs([([f"model=nets/{name}.py:build", "seed=1"], config) for name in "ab"])
    assert [run.config.run_dir for run in runs] == ["runs/x/model-nets-a.py-build", "runs/x/model-nets-b.py-build"]


def test_a_run_that_fails_does_not_stop_the_others(ran, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["sweep", "seed=0,13,2"])
    assert [name for name in ran if "seed" in name] == [f"runs/digits-tiny/seed-{seed}" for seed in (0, 13, 2)]
    captured = capsys.readouterr()
    (row,) = [line for line in captured.out.splitlines() if "seed=13" in line and "NoWinner" in line]
    assert "98.00" not in row
    assert captured.out.count("98.00") == 2
    shown = " ".join(line.strip("│ ") for line in captured.err.splitlines())
    assert "0.495 ms" in shown
    assert "1 of 3 runs failed: seed=13 (NoWinner)" in shown


def test_ctrl_c_ends_the_whole_sweep_and_says_how_to_go_on(ran, capsys):
    with pytest.raises(SystemExit, match="130"):
        cli.main(["sweep", "seed=0,66,2"])
    assert len([name for name in ran if "seed" in name]) == 2
    assert "npas sweep seed=0,66,2" in capsys.readouterr().err


def test_the_table_tells_measured_from_predicted(tmp_path):
    made.write_run(tmp_path / "good")
    made.write_run(tmp_path / "slow", winners=[made.metrics("1", measured_ms=0.7)])
    runs = [Run(name, OmegaConf.create({"run_dir": str(tmp_path / name)})) for name in ("good", "slow")]
    shown = table(runs, {})
    cells = [list(column.cells) for column in shown.columns]
    assert [column[0] for column in cells[:5]] == ["good", "98.00", "97.50", "0.400", "0.410"]
    assert cells[5][0].endswith("winners/1")
    assert [column[1] for column in cells[1:5]] == ["–"] * 4
    assert "none meets the budget when measured" in cells[5][1]
