import base64
import importlib.util
import math
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from scripts import report
from scripts.errors import RecordCorrupt
from scripts.metrics import Metrics
from scripts.overrides_file import write_overrides
from scripts.report.accuracy import WORST, worst_cells
from scripts.report.contents import Contents
from scripts.report.figures import joined_names
from scripts.report.page import page
from scripts.report.sites import site_rows
from scripts.report.statements import next_steps, shortfalls, summary
from search.insight import Insight

_specification = importlib.util.spec_from_file_location("made_run", Path(__file__).with_name("made_run.py"))
made = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(made)


@pytest.fixture
def run_dir(tmp_path):
    made.write_run(tmp_path)
    return tmp_path


class Page(HTMLParser):
    """Text, pictures and references of an HTML page; unclosed tags are noted."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text):
        super().__init__()
        self.text = ""
        self.pictures = []
        self.references = []
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.references += [attributes[key] for key in ("src", "href") if key in attributes]
        if tag == "img":
            self.pictures.append(attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_names_in_the_picture_do_not_cover_one_another():
    first, second, third, *_ = (replace(made.WINNERS[0], name=name) for name in ("1", "2", "3", "4"))
    close = [replace(first, measured_ms=0.1), replace(second, measured_ms=0.101), replace(third, measured_ms=0.3)]
    accuracy = first.test_accuracy
    assert joined_names(close, apart=0.01) == [("1, 2", (0.101, accuracy)), ("3", (0.3, accuracy))]
    apart = [close[0], replace(close[1], test_accuracy=accuracy - 1)]
    assert [names for names, _ in joined_names(apart, apart=0.01)] == ["2", "1"]
    longer = [*close[:2], replace(third, measured_ms=0.12)]
    assert [names for names, _ in joined_names(longer, apart=0.01)] == ["1, 2, 3"]
    assert [names for names, _ in joined_names(longer[1:], apart=0.01)] == ["2", "3"]


def test_metrics_are_read_as_written(tmp_path):
    winner = made.WINNERS[0]
    winner.write(tmp_path / "metrics.json")
    assert Metrics.read(tmp_path / "metrics.json") == winner


@pytest.mark.parametrize("content", ["{", "{}", '{"within_budget": true, "kernels": [], "candidate": []}'])
def test_damaged_metrics_are_named(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(RecordCorrupt, match=re.escape(str(path))):
        Metrics.read(path)


def test_the_best_is_chosen_by_validation_data_within_the_budget(run_dir):
    contents = Contents.read(run_dir)
    # 5 is more accurate and over budget, 2 is better on test data
    assert contents.best.name == "1"
    assert [winner.name for winner in contents.feasible] == ["1", "2", "4", "3"]
    assert sorted(winner.name for winner in contents.pareto) == ["1", "2", "3"]


def test_only_finished_trials_are_shown(run_dir):
    assert Contents.read(run_dir).trials["number"].tolist() == list(range(12))


def test_rank_correlation_of_fast_evaluation_and_fine_tune(run_dir):
    # fast: 95 90 89 91 96; fine-tuned: 98 97 96 96.5 98.4 -> one swap of neighbours in five ranks
    assert Contents.read(run_dir).fine_tuning_rank_correlation == pytest.approx(1 - 6 * 2 / (5 * 24))


def test_two_different_accuracies_are_no_ranking(run_dir):
    contents = Contents.read(run_dir)
    accuracies = [(97.8, 98.6), (96.4, 98.9), (97.8, 98.6), (97.8, 98.6), (97.8, 98.6)]
    winners = tuple(
        replace(winner, supernet_accuracy=before, validation_accuracy=after)
        for winner, (before, after) in zip(contents.winners, accuracies, strict=True)
    )
    assert replace(contents, winners=winners).fine_tuning_rank_correlation is None
    assert replace(contents, winners=()).fine_tuning_rank_correlation is None


def test_the_summary_has_the_figures_that_matter(run_dir):
    text = summary(Contents.read(run_dir))
    assert "4 of 5 networks" in text
    assert f"{1.0 / 0.41:.2f}× as fast as the dense network" in text
    assert f"{1.6 / 0.41:.2f}× as fast as ONNX Runtime" in text


def test_what_was_not_achieved_is_said(run_dir):
    said = shortfalls(Contents.read(run_dir))
    assert "Network 5 was predicted within the budget and measured 4.0 % over it." in said
    assert any("1 of 6 candidates" in sentence for sentence in said)
    assert any("sparse would be slower" in sentence for sentence in said)
    assert len(said) == 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"winners": made.WINNERS[:1]},
            "Only 1 network of the Pareto set meets the budget by measurement; wanted: 3.",
        ),
        ({"within_10": 60.0}, "within 10 % on 60 %"),
        ({"winners": [made.metrics("1", test_accuracy=90.0)]}, "8.20 points below the dense one"),
        ({"winners": [made.metrics("1", onnxruntime_ms=0.1)]}, "ONNX Runtime runs these networks faster"),
        ({"reference": made.metrics("dense", onnxruntime_ms=0.2)}, "ONNX Runtime runs the dense network 2.05×"),
    ],
)
def test_each_goal_that_is_missed_is_said(tmp_path, changes, expected):
    made.write_run(tmp_path, **changes)
    assert any(expected in sentence for sentence in shortfalls(Contents.read(tmp_path)))


def test_each_of_several_budgets_has_its_best(run_dir):
    config = OmegaConf.load(run_dir / "config.yaml")
    config.budget = ["50%", "1%", "0.42ms"]
    OmegaConf.save(config, run_dir / "config.yaml")
    contents = Contents.read(run_dir)
    assert contents.limits_ms == pytest.approx(
        (0.5 * contents.dense.measured_ms, 0.42, 0.01 * contents.dense.measured_ms)
    )
    within = [winner for winner in contents.winners if winner.measured_ms <= 0.42]
    assert within
    assert contents.best_under(0.42) == max(within, key=lambda winner: winner.validation_accuracy)
    said = summary(contents)
    assert "The budget was 50%, 1%, 0.42ms, that is" in said
    assert "Under 0.420 ms it is network" in said
    assert "No network meets 0.0" in said
    assert "budget 50%, 1%, 0.42ms" in page(contents, run_dir, Insight())


def test_a_run_without_any_network_within_the_budget_still_has_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "learned", lambda *_: Insight())
    made.write_run(tmp_path, winners=[made.metrics("1", measured_ms=0.7)])
    report.run(OmegaConf.load(tmp_path / "config.yaml"), tmp_path)
    assert "No network that was found meets it" in (tmp_path / "report.html").read_text()


def test_sites_in_order_with_what_they_cost():
    rows = site_rows(made.metrics("1"))
    assert [row.where for row in rows] == ["input", "stem.conv1", "site 0", "site 1", "site 2", "classifier"]
    assert rows[2].scheme == "block_punched(16x1)"
    assert rows[2].rate == "5"
    assert rows[3].forms == "no kernel"
    assert rows[4].measured_us == 28.0
    assert rows[4].forms == "depthwise 1x16, dense 4x16"
    assert sum(row.share for row in rows) == pytest.approx(100)


def test_the_page_is_whole_and_loads_nothing(run_dir, capsys, monkeypatch):
    columns = ("site", "choice", "value", "runner_up", "runner_up_value")
    chosen = ("a", "conv3x3|filter(8)|2", 97.5, "skip", 95.25)
    forced = ("b", "skip|dense|1", math.nan, "", math.nan)
    forecasts = pd.DataFrame({"number": range(20), "predicted": [0.1 * n for n in range(20)], "deviation": 1.0})
    forecasts["found"] = [0.1 * n + (2.0 if n == 3 else 0.5) for n in range(20)]
    insight = Insight(pd.DataFrame([chosen, forced], columns=columns), forecasts)
    monkeypatch.setattr(report, "learned", lambda *_: insight)
    report.run(OmegaConf.load(run_dir / "config.yaml"), run_dir)
    page = Page((run_dir / "report.html").read_text())
    assert page.open == []
    assert all(reference.startswith("data:image/png;base64,") for reference in page.references)
    assert len(page.pictures) == 5
    assert "conv3x3 filter(8) 2" in page.text
    assert "2.25" in page.text
    assert "95 % lie in its 90 % interval" in page.text
    for picture in page.pictures:
        assert picture["alt"]
        image = Image.open(BytesIO(base64.b64decode(picture["src"].partition(",")[2])))
        assert image.width >= 600
        assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 10
    assert Image.open(run_dir / "pareto.png").format == "PNG"
    for heading in ("Accuracy against measured latency", "What was not achieved", "site by site", "Words", "Machine"):
        assert heading in page.text
    assert "nan" not in page.text.lower().replace("dominan", "")
    assert "None" not in page.text
    shown = capsys.readouterr().out
    assert "digits, budget 50%" in shown
    assert "report.html" in shown


def test_a_tournament_is_told_where_one_was_held(run_dir):
    assert "Which pruning algorithm" not in Page(page(Contents.read(run_dir), run_dir, Insight())).text
    made.write_tournament(run_dir)
    contents = Contents.read(run_dir)
    told = Page(page(contents, run_dir, Insight()))
    assert told.open == []
    assert "Which pruning algorithm" in told.text
    assert "93.25" in told.text
    assert "UnsupportedLayer: <no>" in told.text
    assert "nan" not in told.text.lower().replace("dominan", "")
    assert len(told.pictures) == 5
    (run_dir / "winners" / "tournament" / "result.json").write_text("{}")
    with pytest.raises(RecordCorrupt, match=r"result\.json"):
        Contents.read(run_dir)


def test_the_kernels_predicted_worst_come_with_what_they_are(run_dir):
    rows = worst_cells(Contents.read(run_dir).judged)
    assert len(rows) == WORST
    assert rows[0] == ["conv 16>112 3x3 @8x8 stride 1", "dense", "relu", "14", "15.8", "+13.0", "1"]
    assert [row[5] for row in rows] == [f"+{13 - index}.0" for index in range(WORST)]


def test_the_next_budget_is_below_what_the_best_network_takes(run_dir):
    contents = Contents.read(run_dir)
    taken = 100 * contents.best.measured_ms / contents.dense.measured_ms
    command = dict(next_steps(contents, run_dir))["ask for a faster one"]
    percent = int(re.search(r"budget=(\d+)%", command)[1])
    assert 0.7 * taken <= percent <= 0.8 * taken
    assert command.endswith(f"-{percent}")


def test_next_steps_name_files_of_the_best_network(run_dir):
    commands = [command for _, command in next_steps(Contents.read(run_dir), run_dir)]
    assert any(str(run_dir / "winners" / "1" / "model.onnx") in command for command in commands)


def test_next_steps_repeat_what_was_typed(run_dir):
    typed = ["space=own_model", "model=net.py:build", "checkpoint=my weights.safetensors", "data.root=/data"]
    write_overrides(run_dir, typed)
    searches = [
        command for _, command in next_steps(Contents.read(run_dir), run_dir) if command.startswith("npas search")
    ]
    assert len(searches) == 4
    for command in searches:
        assert shlex.split(command)[2 : 2 + len(typed)] == typed


def test_a_search_goes_on_for_longer_only_where_candidates_are_left(run_dir):
    contents = Contents.read(run_dir)
    asked = shlex.split(dict(next_steps(contents, run_dir))["search on for longer"])
    assert asked == ["npas", "search", "search.steps=20", "search.trials=24", f"run_dir={run_dir}"]
    exhausted = replace(contents, config=OmegaConf.merge(contents.config, {"search": {"trials": 100}}))
    assert "search on for longer" not in dict(next_steps(exhausted, run_dir))
