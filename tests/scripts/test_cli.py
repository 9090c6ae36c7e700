import json
import logging
import os
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from compiler.errors import CannotRunHere
from compiler.target import local_architecture
from latency_model.errors import PredictorNotFound
from pruning.errors import InvalidOption, UnknownAlgorithm
from scripts import cli, job
from scripts.check import check
from scripts.errors import InvalidSetting, NoWinner, RunDirectoryBusy
from scripts.lock import held
from scripts.log import log_to
from scripts.stages import COMMANDS, STAGES
from search.errors import ClusterNotFound, InvalidCluster, TooManyWorkers, UnknownSampler, UnknownSamplerOption
from training.errors import InvalidRecipe


def configuration(*overrides):
    with initialize_config_module("conf", version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.fixture
def calls(monkeypatch):
    """What `run_command` is called with instead of running anything."""
    called = []

    def run(command, config, *, overrides):
        called.append((command, config, list(overrides)))

    monkeypatch.setattr(job, "run_command", run)
    monkeypatch.setattr(sys, "argv", ["npas"])
    return called


@pytest.fixture
def fails(monkeypatch):
    """Let `run_command` raise an error."""
    monkeypatch.setattr(sys, "argv", ["npas"])

    def install(error):
        def run(command, config, *, overrides):
            raise error

        monkeypatch.setattr(job, "run_command", run)

    return install


def test_help_lists_the_stages_in_order_with_a_line_each(capsys):
    cli.main(["--help"])
    text = capsys.readouterr().out
    places = [text.index(f"\n  {stage.name} ") for stage in STAGES]
    assert places == sorted(places)
    assert all(stage.about in text for stage in STAGES)


def test_help_is_what_an_empty_command_line_gets(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["npas"])
    cli.main()
    assert "npas search" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_stage_gets_the_composed_configuration(calls, command):
    cli.main([command, "data=cifar10", "budget=2ms"])
    ((called, config, overrides),) = calls
    assert called == command
    assert overrides == ["data=cifar10", "budget=2ms"]
    assert config.data.name == "cifar10"
    assert config.budget == "2ms"
    assert config.run_dir == "runs/cifar10-tiny"


def test_help_of_a_stage_shows_groups_and_values(calls, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["search", "--help"])
    text = capsys.readouterr().out
    assert "data: cifar10, digits, fashion_mnist" in text
    assert "budget: 50%" in text
    assert calls == []


def test_an_unknown_stage_is_named_with_those_there_are(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["serach"])
    shown = capsys.readouterr().err
    assert "serach" in shown
    assert all(stage.name in shown for stage in STAGES)


def test_an_unknown_override_runs_nothing(calls, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["search", "bugdet=2ms"])
    assert "bugdet" in capsys.readouterr().err
    assert calls == []


def test_a_named_error_is_a_panel_without_traceback(fails, capsys):
    fails(NoWinner(tried=4, budget_ms=0.5, margin=0.02, nearest_ms=0.495))
    with pytest.raises(SystemExit, match="2"):
        cli.main(["search"])
    shown = capsys.readouterr().err
    assert "NoWinner" in shown
    assert "met 0.490 ms (the budget of 0.500 ms less winners.margin=0.02)" in " ".join(shown.replace("│", "").split())
    assert "0.495 ms" in shown
    assert "Traceback" not in shown


def test_the_debug_variable_gives_the_traceback(fails, monkeypatch):
    fails(NoWinner(tried=4, budget_ms=0.5, margin=0.02, nearest_ms=0.495))
    monkeypatch.setenv("NPAS_DEBUG", "1")
    with pytest.raises(NoWinner):
        cli.main(["search"])


def test_an_error_that_is_not_ours_is_not_dressed_up(fails):
    fails(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        cli.main(["search"])


def test_ctrl_c_says_how_to_go_on(fails, capsys):
    fails(KeyboardInterrupt())
    with pytest.raises(SystemExit, match="130"):
        cli.main(["search", "budget=40%", "seed=3"])
    assert "npas search budget=40% seed=3" in capsys.readouterr().err


def test_every_value_that_a_stage_reads_is_in_the_configuration():
    config = configuration()
    missing = object()
    for stage in STAGES:
        for key in stage.reads:
            assert OmegaConf.select(config, key, default=missing) is not missing, f"{stage.name} reads {key}"


def test_every_option_of_every_group_composes():
    with initialize_config_module("conf", version_base="1.3"):
        for group in ("data", "space", "device", "search", "pruning", "training", "cluster"):
            options = GlobalHydra.instance().config_loader().get_group_options(group)
            assert options, group
            for option in options:
                assert OmegaConf.to_container(compose("config", overrides=[f"{group}={option}"]), resolve=True)


def test_a_group_is_one_value_apart_from_its_comment():
    assert configuration("search=random").search.sampler == "random"
    assert configuration("search=random").search.trials == configuration().search.trials


def test_stages_write_apart_from_each_other():
    outputs = [output for stage in STAGES for output in stage.outputs]
    assert len(outputs) == len(set(outputs))
    known = set()
    for stage in STAGES:
        assert set(stage.after) <= known, f"{stage.name} comes before a stage that it needs"
        known.add(stage.name)


def test_bad_input_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["npas"])
    with pytest.raises(SystemExit, match="2"):
        cli.main(["search", "budget=fast"])
    assert "fast" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_data_offline_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["npas"])
    monkeypatch.setattr("urllib.request.urlopen", _offline)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["search", "data=cifar10"])
    assert "data_batch_1.bin" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def _offline(*_args, **_kwargs):
    raise OSError("no network in this test")


def test_a_run_directory_belongs_to_one_process(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from scripts.lock import held\n"
            f"with held(pathlib.Path({str(tmp_path)!r})): print('in', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=os.path.dirname(os.path.dirname(cli.__file__)),
    )
    try:
        assert holder.stdout.readline() == b"in\n"
        with pytest.raises(RunDirectoryBusy, match=str(holder.pid)), held(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with held(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_the_log_has_a_json_object_a_line(tmp_path):
    handler = log_to(tmp_path / "log.jsonl")
    try:
        logging.getLogger("npas").info("two\nlines")
        try:
            raise ValueError("inside")
        except ValueError:
            logging.getLogger("npas").exception("failed")
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    first, second = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert first["message"] == "two\nlines"
    assert "ValueError: inside" in second["traceback"]


def test_a_command_runs_what_it_needs_in_its_run_directory(tmp_path, monkeypatch):
    ran = []
    config = configuration(f"run_dir={tmp_path / 'run'}")
    monkeypatch.setattr(job, "check", lambda config, command: ran.append("check"))
    for stage in STAGES:
        monkeypatch.setitem(sys.modules, f"scripts.{stage.name}", _Fake(stage.name, ran))
    job.run_command("supernet", config)
    assert ran == ["check", "supernet"]
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").budget == "50%"


def test_a_password_stays_out_of_the_run_directory(tmp_path, monkeypatch):
    config = configuration(f"run_dir={tmp_path / 'run'}", "storage=postgresql+psycopg://me:very-secret@host/db")
    monkeypatch.setattr(job, "check", lambda config, command: None)
    for stage in STAGES:
        monkeypatch.setitem(sys.modules, f"scripts.{stage.name}", _Fake(stage.name, []))
    job.run_command("supernet", config)
    written = [path.read_text() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any("me:***@host" in text for text in written)
    assert not any("very-secret" in text for text in written)


def test_a_cluster_that_cannot_do_it_is_named_before_anything_is_written(tmp_path):
    for override, error in (
        ("cluster.parallel=1000", TooManyWorkers),
        ("cluster.address=127.0.0.1:1", ClusterNotFound),
        ("cluster.address=here", InvalidCluster),
    ):
        with pytest.raises(error):
            job.run_command("search", configuration("cluster=ray", override, f"run_dir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()


class _Fake:
    """Stands for any stage's module; notes that it ran."""

    def __init__(self, stage, ran):
        self.stage = stage
        self.ran = ran

    def run(self, config, run_dir):
        self.ran.append(self.stage)


def test_help_does_not_wait_for_torch():
    code = "import sys; from scripts.cli import main; main(['--help']); print('torch' in sys.modules)"
    root = os.path.dirname(os.path.dirname(cli.__file__))
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "False"


def test_a_reader_of_the_help_may_stop_early():
    command = [sys.executable, "-c", "from scripts.cli import main; main(['search', '--help'])"]
    root = os.path.dirname(os.path.dirname(cli.__file__))
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.skipif(local_architecture() == "aarch64", reason="this processor is the one asked for")
def test_the_main_job_runs_on_this_processor_or_says_so_before_it_writes(tmp_path):
    with pytest.raises(CannotRunHere, match="aarch64_neon"):
        job.run_command("profile", configuration("device=aarch64_neon", f"run_dir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()


def test_the_main_job_needs_a_device_in_this_process_and_a_profile_does_not(tmp_path):
    config = configuration("device=x86_avx2", f"run_dir={tmp_path / 'run'}")
    config.device = {"name": "board", "target": "local", "runner": {"kind": "command", "run": "{local}/network"}}
    with pytest.raises(InvalidSetting, match=r"device='board'.*profile and predictor"):
        job.run_command("search", config)
    assert not (tmp_path / "run").exists()
    check(config, "profile")
    check(config, "predictor")


@pytest.mark.parametrize(
    ("override", "error", "said"),
    [
        ("seed=-1", InvalidSetting, "seed=-1 .*whole numbers from 0"),
        ("threads=true", InvalidSetting, "threads=True .*whole numbers from 1"),
        ("search.trials=many", InvalidSetting, r"search\.trials='many' "),
        ("search.pictures=0", InvalidRecipe, "pictures must be at least 1, or null for all, not 0"),
        ("search.pictures=-3", InvalidRecipe, "pictures must be at least 1"),
        ("search.steps=none", InvalidRecipe, "steps must be a whole number, not none"),
        ("search.recalibration_batches=0", InvalidRecipe, "recalibration_batches must be at least 1"),
        ("search.sampler=best", UnknownSampler, "no sampler 'best'"),
        ("+search.options.startups=3", UnknownSamplerOption, "npas has no option startups. Allowed: distortions, "),
        ("+search.options.seed=3", UnknownSamplerOption, "npas has no option seed"),
        ("profile.kernels=19", InvalidSetting, r"profile\.kernels=19 .*from 20"),
        ("profile.minutes=0", InvalidSetting, r"profile\.minutes=0 .*null, or numbers above 0"),
        ("profile.minutes=long", InvalidSetting, r"profile\.minutes"),
        ("profile.networks=2", InvalidSetting, r"profile\.networks"),
        ("winners.at_most=4", InvalidSetting, r"winners\.at_most=4 .*from 5"),
        ("winners.margin=1", InvalidSetting, r"winners\.margin=1 .*from 0 to below 1"),
        ("winners.seconds=.inf", InvalidSetting, r"winners\.seconds"),
        ("pruning.algorithm=best", UnknownAlgorithm, "pruning algorithm 'best'"),
        ("+pruning.options.rounds=3", InvalidOption, "admm has no option rounds"),
        ("pruning.options.rho=[-1]", InvalidOption, "rho"),
        ("pruning.options.rho=much", InvalidOption, "admm cannot work with .*much"),
        ("pruning.epochs=12", InvalidSetting, r"pruning\.epochs=12 .*below training\.finetune\.epochs = 12"),
        ("training.supernet.epochs=1.5", InvalidRecipe, r"training\.supernet\.epochs must be a whole number, not 1\.5"),
        ("+training.finetune.speed=3", InvalidRecipe, r"training\.finetune has no setting speed. Allowed: epochs, "),
        ("training.own_model.batch_size=null", InvalidRecipe, r"training\.own_model\.batch_size"),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_anything_is_written(tmp_path, override, error, said):
    with pytest.raises(error, match=said):
        job.run_command("search", configuration(override, f"run_dir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tournament.first_rung=0", r"tournament\.first_rung=0 .*from 1"),
        ("tournament.entrants.admm.options.rho=[]", "rho"),
        ("tournament.long.gradual.epochs=12", r"tournament\.long\.gradual\.epochs=12 .*below"),
        ("tournament.long.smart.options.lr=fast", "smart cannot work with .*fast"),
    ],
)
def test_a_tournament_with_something_that_cannot_be_is_refused_too(override, said):
    with pytest.raises((InvalidSetting, InvalidOption), match=said):
        check(configuration("tournament=halving", override), "search")


def test_sources_that_are_none_are_named_before_anything_is_measured(tmp_path):
    with pytest.raises(InvalidSetting, match=r"source='runs/other' is not allowed.*list of folders"):
        check(configuration("source=runs/other"), "profile")
    with pytest.raises(PredictorNotFound, match=str(tmp_path)):
        check(configuration(f"source=[{tmp_path}]"), "profile")
