"""What was typed, kept for commands that repeat it."""

import shlex
from pathlib import Path

import pytest

from scripts.errors import RecordCorrupt
from scripts.overrides_file import OVERRIDES, repeated, write_overrides

TYPED = ("data=cifar10", "data.root=/my data", "search=npas", "search.options.startup=5", "search.trials=80", "+x=1")


def arguments(run_dir: Path, *changes: str) -> list[str]:
    return shlex.split(repeated(run_dir, *changes))[2:]


def test_what_is_not_changed_is_repeated_in_its_order(tmp_path: Path) -> None:
    write_overrides(tmp_path, TYPED)
    assert repeated(tmp_path).startswith("npas search data=cifar10 'data.root=/my data' ")
    assert arguments(tmp_path) == list(TYPED)
    assert arguments(tmp_path, "search.trials=160") == [*TYPED[:4], "+x=1", "search.trials=160"]


def test_another_sampler_has_no_options_of_the_first(tmp_path: Path) -> None:
    write_overrides(tmp_path, TYPED)
    assert arguments(tmp_path, "search=random") == [*TYPED[:2], "search.trials=80", "+x=1", "search=random"]


def test_a_changed_group_leaves_names_that_only_begin_like_it(tmp_path: Path) -> None:
    write_overrides(tmp_path, ["data=digits", "data.root=here", "database=1"])
    assert arguments(tmp_path, "data=cifar10") == ["database=1", "data=cifar10"]


def test_a_password_is_not_kept(tmp_path: Path) -> None:
    write_overrides(tmp_path, ["storage=postgresql+psycopg://me:very-secret@host/db"])
    assert arguments(tmp_path) == ["storage=postgresql+psycopg://me:***@host/db"]
    assert "very-secret" not in (tmp_path / OVERRIDES).read_text()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / OVERRIDES).write_text("[")
    with pytest.raises(RecordCorrupt, match=OVERRIDES):
        repeated(tmp_path)
