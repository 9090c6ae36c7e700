"""Imports only go down the rooms of the house, also inside functions."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# room -> the rooms it may import, besides itself and other people's packages
ALLOWED = {
    "pruning": set(),
    "training": {"pruning"},
    "compiler": {"pruning"},
    "latency_model": {"compiler", "pruning"},
    "supernet": {"pruning", "training"},
    "search": {"pruning", "training", "compiler", "latency_model", "supernet"},
    "scripts": {"pruning", "training", "compiler", "latency_model", "supernet", "search", "conf"},
    "conf": set(),
}
# what `pruning` may import of other people's packages, besides the standard library: "torch only", and numpy
FORBIDDEN_IN_PRUNING = {"pandas", "sklearn", "optuna", "hydra", "omegaconf", "rich", "lightgbm", "botorch"}


def imported(source: str) -> set[str]:
    """Top-level names of all absolute imports, wherever in the file they stand."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_only_go_down(room):
    others = set(ALLOWED) - {room}
    wrong = {
        str(path.relative_to(ROOT)): up
        for path in sorted((ROOT / room).rglob("*.py"))
        if (up := imported(path.read_text()) & (others - ALLOWED[room]))
    }
    assert wrong == {}


def test_pruning_needs_torch_only():
    used = {name for path in (ROOT / "pruning").rglob("*.py") for name in imported(path.read_text())}
    assert used & FORBIDDEN_IN_PRUNING == set()


def test_the_order_has_no_cycle():
    for room, below in ALLOWED.items():
        for other in below:
            assert ALLOWED[other] <= below, f"{room} may import {other}, but not all that {other} rests on"


def test_every_room_exists_and_says_what_it_is():
    for room in ALLOWED:
        init = ROOT / room / "__init__.py"
        assert init.is_file(), f"{room} is not a package"
        assert ast.get_docstring(ast.parse(init.read_text())), f"{init} has no docstring"


def test_there_is_no_utils():
    assert [path for room in ALLOWED for path in (ROOT / room).rglob("util*")] == []


def test_nothing_is_pickled():
    for room in ALLOWED:
        for path in (ROOT / room).rglob("*.py"):
            assert not imported(path.read_text()) & {"pickle", "joblib", "cloudpickle"}, path


def test_imports_inside_functions_are_found():
    assert imported("def f():\n    import search.budget\n    from scripts import cli\n    from . import near\n") == {
        "search",
        "scripts",
    }
