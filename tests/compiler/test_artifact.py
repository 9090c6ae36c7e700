import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compiler import compile_model, find_compiler, load_compiled, local_target
from compiler.errors import ArtifactCorrupt
from compiler.toolchain import FLAGS


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 5)
    )
    compiled = compile_model(model, torch.randn(1, 3, 8, 8))
    compiled.save(tmp_path / "saved")
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", compiled(x))
    return tmp_path


def test_a_saved_network_runs_without_torch_and_gives_the_same_bits(saved: Path) -> None:
    code = f"""
import sys, numpy as np
from compiler import load_compiled
model = load_compiled({str(saved / "saved")!r})
assert (model(np.load({str(saved / "x.npy")!r})) == np.load({str(saved / "y.npy")!r})).all()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_specs_survive(saved: Path) -> None:
    loaded = load_compiled(saved / "saved")
    assert [spec.op for spec in loaded.specs] == ["pack", "conv", "global_pool", "linear", "unpack"]
    assert loaded.kernels["layer"].tolist()[1:4] == ["0", "2", "4"]


def test_the_one_c_file_is_the_whole_network(saved: Path) -> None:
    target = local_target()
    command = [find_compiler(target), *FLAGS, *target.flags, "-shared", "kernels.c", "-o", "again.so"]
    subprocess.run(command, check=True, cwd=saved / "saved")
    import ctypes

    assert ctypes.CDLL(str(saved / "saved" / "again.so")).npas_run


@pytest.mark.parametrize("name", ["kernels.c", "libmodel.so", "constants.safetensors"])
def test_an_altered_or_missing_file_is_named(saved: Path, name: str) -> None:
    path = saved / "saved" / name
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    with pytest.raises(ArtifactCorrupt, match=name):
        load_compiled(saved / "saved")
    path.unlink()
    with pytest.raises(ArtifactCorrupt, match=f"{name} is missing"):
        load_compiled(saved / "saved")


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', json.dumps({"format": 99, "sha256": {}})])
def test_a_broken_manifest_is_named(saved: Path, text: str) -> None:
    (saved / "saved" / "manifest.json").write_text(text)
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json"):
        load_compiled(saved / "saved")
