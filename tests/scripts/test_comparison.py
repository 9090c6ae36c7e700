"""Searches of other runs in the report of this one."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from scripts.comparison import SAME, compared
from scripts.errors import InvalidSetting, NotComparable, RecordCorrupt
from scripts.report import figures
from scripts.report.contents import Contents
from scripts.report.page import page
from scripts.report.statements import shortfalls
from scripts.run_directory import Record
from search.insight import Insight

_specification = importlib.util.spec_from_file_location("made_run", Path(__file__).with_name("made_run.py"))
made = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(made)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run, and the searches of a worse and a better one."""
    folder = tmp_path_factory.mktemp("runs")
    made.write_run(folder / "ours")
    made.write_baseline(folder / "worse", evaluations=8, gain=0.5)
    made.write_baseline(folder / "better", evaluations=20, gain=2.0)
    return folder


@pytest.fixture
def run_dir(runs, tmp_path):
    """The run, which is compared with the other two; copies, to change at will."""
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    config = OmegaConf.load(tmp_path / "ours" / "config.yaml")
    config.run_dir = str(tmp_path / "ours")
    config.compare = [str(tmp_path / "worse"), str(tmp_path / "better")]
    OmegaConf.save(config, tmp_path / "ours" / "config.yaml")
    return tmp_path / "ours"


def config_of(run_dir):
    return OmegaConf.load(run_dir / "config.yaml")


def test_other_searches_are_read_in_the_order_given(run_dir):
    worse, better = compared(config_of(run_dir))
    assert (worse.sampler, worse.seed, len(worse.trials), worse.run_dir.name) == ("random", 7, 8, "worse")
    assert len(better.trials) == 20
    config = config_of(run_dir)
    del config["compare"]
    assert compared(config) == ()


def test_the_picture_has_the_best_so_far_of_each(run_dir, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    contents = Contents.read(run_dir)
    figures.progress(contents)
    lines = {line.get_label(): list(line.get_ydata()) for line in drawn[0].axes[0].get_lines()}
    for label, trials in (
        ("best so far, npas (this run)", contents.trials),
        ("best so far, random (worse)", contents.compared[0].trials),
        ("best so far, random (better)", contents.compared[1].trials),
    ):
        assert lines[label] == [max(trials["accuracy"][: count + 1]) for count in range(len(trials))]
    assert lines["one candidate"] == contents.trials["accuracy"].tolist()


def test_a_search_that_was_not_beaten_is_named_at_equal_evaluations(run_dir):
    contents = Contents.read(run_dir)
    (said,) = [sentence for sentence in shortfalls(contents) if "the search by npas" in sentence]
    better = contents.compared[1]
    assert f"After 12 evaluations the search by npas had found {contents.trials['accuracy'].max():.2f} %" in said
    assert f"{better.run_dir} {better.trials['accuracy'][:12].max():.2f} %" in said


def test_the_page_tells_what_each_found(run_dir):
    contents = Contents.read(run_dir)
    told = page(contents, run_dir, Insight())
    assert "best after 8, %" in told
    for trials in (contents.trials, *(other.trials for other in contents.compared)):
        assert f"<td>{trials['accuracy'][:8].max():.2f}</td><td>{trials['accuracy'].max():.2f}</td>" in told
    config = config_of(run_dir)
    config.compare = []
    OmegaConf.save(config, run_dir / "config.yaml")
    assert "best after" not in page(Contents.read(run_dir), run_dir, Insight())


@pytest.mark.parametrize("key", SAME)
def test_a_run_that_differs_in_more_than_its_search_is_refused_by_what_differs(run_dir, key):
    config = config_of(run_dir)
    OmegaConf.update(config, key, {"name": "else"} if key in ("space", "device") else "else", force_add=True)
    with pytest.raises(
        NotComparable, match=f"worse cannot be compared with this run: {key} is .* there and .*else.* here"
    ):
        compared(config)


def test_what_is_no_finished_run_is_refused(run_dir, tmp_path):
    config = config_of(run_dir)
    for folder, reason in ((tmp_path / "nowhere", "there is no run"), (run_dir, "the folder of this run")):
        config.compare = [str(folder)]
        with pytest.raises(NotComparable, match=f"{folder} cannot be compared with this run: .*{reason}"):
            compared(config)
    Record("search", "0123456789ab", {}, "0.1", "2026-01-01T00:00:00+00:00").write(tmp_path / "worse")
    config.compare = [str(tmp_path / "worse")]
    with pytest.raises(NotComparable, match="not finished"):
        compared(config)
    shutil.rmtree(tmp_path / "worse" / "stages")
    with pytest.raises(NotComparable, match="not finished"):
        compared(config)
    config.compare = "runs/random"
    with pytest.raises(InvalidSetting, match="a list of folders"):
        compared(config)


def test_a_damaged_study_is_named(run_dir, tmp_path):
    (tmp_path / "worse" / "study.db").write_bytes(b"not a database, and long enough to be taken for one\n" * 40)
    with pytest.raises(RecordCorrupt, match=r"worse/study\.db"):
        compared(config_of(run_dir))
