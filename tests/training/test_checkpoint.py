"""Checkpoints give back what was put in, or say what is wrong with the file."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from training import load_checkpoint, save_checkpoint
from training.errors import CheckpointCorrupt, CheckpointNotFound, NotStorable

TENSORS = st.builds(
    lambda shape, dtype, seed: torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]),
    st.integers(0, 100),
)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
KEYS = st.text("abc._ä ", min_size=1, max_size=4)
STATES = st.dictionaries(
    KEYS,
    st.recursive(
        st.one_of(TENSORS, PLAIN),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
        max_leaves=8,
    ),
    max_size=4,
)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and bool(one == other)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "state.safetensors"


@given(state=STATES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_round_trip(path: Path, state: dict[str, Any]) -> None:
    save_checkpoint(path, state)
    assert equal(load_checkpoint(path), state)


def test_what_is_awkward_to_store(path: Path) -> None:
    weight = torch.rand(3, 4)
    save_checkpoint(path, {"tied": weight, "too": weight, "turned": weight.t(), "pair": (1, 2), "nan": math.nan})
    state = load_checkpoint(path)
    assert torch.equal(state["tied"], weight)
    assert torch.equal(state["too"], weight)
    assert torch.equal(state["turned"], weight.t())
    assert state["pair"] == [1, 2]
    assert math.isnan(state["nan"])


def test_other_programs_can_read_the_tensors(path: Path) -> None:
    save_checkpoint(path, {"model": {"conv.weight": torch.ones(2)}, "steps": [torch.zeros(1)]})
    assert set(load_file(path)) == {"model/conv.weight", "steps/0"}


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"model": {"fn": print}}, "model/fn is a builtin"),
        ({"model": {1: torch.ones(1)}}, "model has the key 1"),
        ({"a": {"$tensor": "b"}}, "a has the key"),
        ({"a/b": torch.ones(1), "a": {"b": torch.ones(1)}}, "'a/b'"),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_written(path: Path, state: dict[str, Any], where: str) -> None:
    with pytest.raises(NotStorable, match=where):
        save_checkpoint(path, state)
    assert not path.parent.exists()


def test_every_truncation_is_noticed(path: Path) -> None:
    save_checkpoint(path, {"weights": torch.rand(5), "epoch": 3})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointCorrupt, match=str(path)):
            load_checkpoint(path)


def test_a_flipped_bit_is_noticed(path: Path) -> None:
    save_checkpoint(path, {"weights": torch.rand(5), "epoch": 3})
    whole = path.read_bytes()
    for position in (len(whole) - 1, len(whole) - 20, whole.index(b"epoch")):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(CheckpointCorrupt, match="checksum"):
            load_checkpoint(path)


def test_other_files_are_not_taken_for_checkpoints(path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=str(path)):
        load_checkpoint(path)
    path.parent.mkdir()
    path.write_text("no checkpoint")
    with pytest.raises(CheckpointCorrupt, match=str(path)):
        load_checkpoint(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(CheckpointCorrupt, match="format"):
        load_checkpoint(path)


def test_a_failed_write_keeps_the_old_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left on device")

    save_checkpoint(path, {"epoch": 1})
    monkeypatch.setattr("training.checkpoint.save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert list(path.parent.iterdir()) == [path]


def test_reading_needs_no_trust(path: Path) -> None:
    """Loading in a clean process never touches pickle."""
    save_checkpoint(path, {"weights": torch.ones(2)})
    code = (
        "import pickle, sys\n"
        "from training import load_checkpoint\n"
        "def refuse(*_, **__): raise SystemExit('pickle was used')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = refuse\n"
        "assert load_checkpoint(sys.argv[1])['weights'].tolist() == [1, 1]\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=Path(__file__).parents[2])
