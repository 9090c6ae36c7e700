import json
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from scripts.errors import RecordCorrupt
from scripts.run_directory import Record, RunDirectory
from scripts.stage import Stage, needed


class House:
    """Three stages: `a` and `b` apart, `c` after both; each writes what it was configured with."""

    def __init__(self, tmp_path):
        self.run_dir = tmp_path / "run"
        self.run_dir.mkdir()
        self.ran = []
        self.said = []
        self.fails = set()
        self.stages = (self._stage("a", ()), self._stage("b", ()), self._stage("c", ("a", "b")))

    def _stage(self, name, after):
        def run(config, run_dir):
            self.ran.append(name)
            if name in self.fails:
                raise KeyboardInterrupt
            (run_dir / f"{name}.out").write_text(str(config[name]))

        return Stage(name, f"do {name}", (name,), after, (f"{name}.out",), run)

    def run(self, last="c", **values):
        self.ran.clear()
        self.said.clear()
        config = OmegaConf.create({"a": 1, "b": 1, "c": 1, **values})
        RunDirectory(self.run_dir, self.said.append).perform(self.stages, config, needed(self.stages, last))
        return list(self.ran)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_stages_run_in_order_and_are_skipped_aloud_when_done(house):
    assert house.run() == ["a", "b", "c"]
    assert house.run() == []
    assert house.said == [f"{name}: done before, skipped" for name in "abc"]


def test_only_what_a_command_needs_is_run(house):
    assert house.run("b") == ["b"]
    assert needed(house.stages, "c") == ("a", "b", "c")


def test_a_changed_value_runs_its_stage_and_those_after_it(house):
    house.run()
    assert house.run(b=2) == ["b", "c"]
    assert house.run(c=2, b=2) == ["c"]


def test_an_unread_value_changes_nothing(house):
    house.run()
    assert house.run(unread=5) == []


def test_old_outputs_are_moved_and_kept(house):
    house.run(b=1)
    old = Record.read(house.run_dir, "b")
    house.run(b=2)
    assert (house.run_dir / "b.out").read_text() == "2"
    kept = house.run_dir / "previous" / old.fingerprint
    assert (kept / "b.out").read_text() == "1"
    assert Record.read(kept, "b") == old
    assert any("moved to" in line and str(kept) in line for line in house.said)


def test_the_same_old_configuration_twice_loses_nothing(house):
    for value in (1, 2, 1, 2):
        house.run("b", b=value)
    first = sorted(path.parent.name for path in (house.run_dir / "previous").glob("*/b.out"))
    assert len(first) == 3
    assert first[1] == f"{first[0]}-2" or first[2] == f"{first[1]}-2"


def test_outputs_that_rest_on_a_changed_stage_do_not_stay(house):
    house.run()
    house.run("b", b=2)
    assert (house.run_dir / "b.out").read_text() == "2"
    assert not (house.run_dir / "c.out").exists()
    assert len(list((house.run_dir / "previous").glob("*/c.out"))) == 1


def test_an_earlier_stage_asked_for_alone_leaves_the_later_ones(house):
    house.run()
    assert house.run("a") == []
    assert (house.run_dir / "c.out").exists()


def test_an_interrupted_stage_goes_on(house):
    house.fails = {"c"}
    with pytest.raises(KeyboardInterrupt):
        house.run()
    record = Record.read(house.run_dir, "c")
    assert record.finished is None
    assert record.seconds > 0
    house.fails = set()
    assert house.run() == ["c"]
    assert "c: goes on where it was stopped" in house.said
    assert Record.read(house.run_dir, "c").seconds > record.seconds


def test_an_interrupted_stage_of_another_configuration_does_not_go_on(house):
    house.fails = {"c"}
    with pytest.raises(KeyboardInterrupt):
        house.run()
    house.fails = set()
    assert house.run(c=2) == ["c"]
    assert not any("goes on" in line for line in house.said)


@pytest.mark.parametrize("finished", [True, False])
def test_a_stage_that_grows_goes_on_and_what_rests_on_it_is_made_anew(house, finished):
    a, b, c = house.stages
    house.stages = (a, replace(b, reads=("b", "trials"), grows="trials"), c)
    house.run(trials=3)
    first = Record.read(house.run_dir, "b")
    (house.run_dir / "b.out").write_text("kept")
    if not finished:
        house.fails = {"b"}
        with pytest.raises(KeyboardInterrupt):
            house.run("b", trials=4)
        house.fails = set()
    assert house.run(trials=5) == ["b", "c"]
    assert f"b: goes on, from trials={3 if finished else 4} to 5" in house.said
    assert not (house.run_dir / "previous" / first.fingerprint / "b.out").exists()
    grown = Record.read(house.run_dir, "b")
    assert (grown.extent, grown.origin) == (5, first.fingerprint)
    assert grown.seconds > first.seconds
    assert len(list((house.run_dir / "previous").glob("*/c.out"))) == 1
    assert house.run(trials=5) == []


def test_a_stage_that_grows_begins_anew_for_less_and_for_anything_else(house):
    a, b, c = house.stages
    house.stages = (a, replace(b, reads=("b", "trials"), grows="trials"), c)
    house.run(trials=3)
    assert house.run("b", trials=2) == ["b"]
    assert house.run("b", trials=4, b=2) == ["b"]
    assert len(list((house.run_dir / "previous").glob("*/b.out"))) == 2
    assert not any("goes on" in line for line in house.said)


def test_a_lost_output_is_made_again_and_so_is_what_rests_on_it(house):
    house.run()
    (house.run_dir / "a.out").unlink()
    record = Record.read(house.run_dir, "c")
    assert house.run() == ["a", "c"]
    kept = house.run_dir / "previous" / record.fingerprint
    assert house.said == [
        "a: a.out missing, runs again",
        f"c: outputs of an earlier stage that runs again moved to {kept}",
        "a: do a",
        "b: done before, skipped",
        "c: do c",
    ]
    assert (kept / "c.out").read_text() == "1"


def test_a_stage_that_runs_again_finds_nothing_of_before(house):
    """Half of its outputs would make it believe in the rest; and it has another name in a database."""
    a, b, c = house.stages

    def run(config, run_dir):
        house.ran.append("a")
        assert not (run_dir / "more.out").exists()
        for output in ("a.out", "more.out"):
            (run_dir / output).write_text(str(len(house.ran)))

    house.stages = (replace(a, outputs=("a.out", "more.out"), run=run), b, c)
    house.run()
    first = Record.read(house.run_dir, "a")
    (house.run_dir / "a.out").unlink()
    assert house.run() == ["a", "c"]
    kept = house.run_dir / "previous" / first.fingerprint
    assert house.said[:2] == ["a: a.out missing, runs again", f"a: the other outputs moved to {kept}"]
    assert (kept / "more.out").exists()
    second = Record.read(house.run_dir, "a")
    assert (second.fingerprint, second.origin) == (first.fingerprint, f"{first.origin}-2")


def test_a_stage_that_is_stopped_while_it_runs_again_goes_on_and_so_do_not_those_after_it(house):
    house.run()
    (house.run_dir / "a.out").unlink()
    house.fails = {"a"}
    with pytest.raises(KeyboardInterrupt):
        house.run()
    assert not (house.run_dir / "c.out").exists()
    house.fails = {"c"}
    with pytest.raises(KeyboardInterrupt):
        house.run()
    house.fails = set()
    assert house.run() == ["c"]
    assert "c: goes on where it was stopped" in house.said


def test_an_interrupted_or_growing_stage_does_not_go_on_with_what_an_earlier_one_made_anew(house):
    a, b, c = house.stages
    house.stages = (a, b, replace(c, reads=("c", "trials"), grows="trials"))
    house.run(trials=3)
    (house.run_dir / "a.out").unlink()
    assert house.run(trials=4) == ["a", "c"]
    assert not any("goes on" in line for line in house.said)
    house.fails = {"c"}
    with pytest.raises(KeyboardInterrupt):
        house.run(trials=5)
    house.fails = set()
    (house.run_dir / "a.out").unlink()
    assert house.run(trials=5) == ["a", "c"]
    assert not any("goes on" in line for line in house.said)


def test_what_an_interrupted_stage_left_beside_its_outputs_goes_where_these_go(house):
    a, b, c = house.stages

    def run(config, run_dir):
        left = run_dir / "a.unfinished"
        assert house.fails or not left.exists()
        left.write_text(str(config.a))
        a.run(config, run_dir)
        left.unlink()

    house.stages = (replace(a, leftovers=("a.unfinished",), run=run), b, c)
    house.fails = {"a"}
    with pytest.raises(KeyboardInterrupt):
        house.run()
    first = Record.read(house.run_dir, "a")
    house.fails = set()
    assert house.run(a=2) == ["a", "b", "c"]
    assert (house.run_dir / "previous" / first.fingerprint / "a.unfinished").read_text() == "1"
    assert house.run(a=2) == []


def test_files_of_unknown_origin_are_moved_away(house):
    (house.run_dir / "a.out").write_text("who wrote this?")
    assert house.run("a") == ["a"]
    assert (house.run_dir / "previous" / "unknown" / "a.out").read_text() == "who wrote this?"


@pytest.mark.parametrize("content", ["", '{"stage": "a"', '{"stage": "a"}', '{"unknown": 1}'])
def test_a_damaged_record_is_named(house, content):
    house.run("a")
    path = Record.path(house.run_dir, "a")
    path.write_text(content)
    with pytest.raises(RecordCorrupt, match=str(path)):
        house.run("a")


def test_fingerprints_see_nested_values_and_upstream_only(house):
    stage = Stage("s", "", ("group.inner", "list"), ("up",), (), lambda config, run_dir: None)
    config = OmegaConf.create({"group": {"inner": {"x": 1}, "outer": 1}, "list": [1, 2], "ref": "${list}"})

    def fingerprint(upstream="u", **changes):
        changed = config.copy()
        for key, value in changes.items():
            OmegaConf.update(changed, key.replace("__", "."), value)
        return stage.fingerprint(changed, {"up": upstream, "unrelated": str(changes)})

    assert fingerprint() == fingerprint(group__outer=2)
    assert len({fingerprint(), fingerprint("v"), fingerprint(group__inner__x=2), fingerprint(list=[2, 1])}) == 4


def test_a_run_goes_on_when_it_may_wait_longer_for_its_device():
    stage = Stage("s", "", ("device",), (), (), lambda config, run_dir: None)

    def fingerprint(**runner):
        config = OmegaConf.create({"device": {"name": "there", "runner": {"kind": "command", **runner}}})
        OmegaConf.set_struct(config, True)
        return stage.fingerprint(config, {})

    assert fingerprint(run="a", timeout_s=60) == fingerprint(run="a", timeout_s=600)
    assert fingerprint(run="a", timeout_s=60) != fingerprint(run="b", timeout_s=60)


def test_records_are_json(house):
    house.run("a")
    record = json.loads(Record.path(house.run_dir, "a").read_text())
    assert record["stage"] == "a"
    assert record["finished"]


def test_what_another_run_has_finished_is_copied_where_it_is_the_same(house, tmp_path):
    house.run()
    (other, house.run_dir) = (house.run_dir, tmp_path / "second")
    house.run_dir.mkdir()

    def adopt(**values):
        config = OmegaConf.create({"a": 1, "b": 1, "c": 1, **values})
        RunDirectory(house.run_dir, house.said.append).adopt(house.stages, config, ("a", "b"), [tmp_path, other])

    adopt(b=2)
    assert sorted(path.name for path in house.run_dir.glob("*.*")) == ["a.out"]
    assert (house.run_dir / "a.out").read_text() == "1"
    assert Record.read(house.run_dir, "a") == Record.read(other, "a")
    assert f"a: the same as in {other}, copied" in house.said
    assert house.run(b=2) == ["b", "c"]
    adopt()
    assert (house.run_dir / "b.out").read_text() == "2"


def test_what_another_run_has_not_finished_is_not_copied(house, tmp_path):
    house.fails.add("a")
    with pytest.raises(KeyboardInterrupt):
        house.run("a")
    (house.run_dir / "a.out").write_text("half")
    target = tmp_path / "second"
    target.mkdir()
    config = OmegaConf.create({"a": 1, "b": 1, "c": 1})
    RunDirectory(target, house.said.append).adopt(house.stages, config, ("a",), [house.run_dir])
    assert list(target.iterdir()) == []
