import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compiler import CompiledModel, artifact, compile_model, find_compiler, find_target, load_compiled, local_target
from compiler.artifact import FORMAT
from compiler.errors import ArtifactCorrupt, CannotRunHere, DirectoryUnwritable
from compiler.runtime import Program
from compiler.target import local_architecture
from compiler.toolchain import build_flags


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
assert not {{"torch", "pandas"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_specs_survive(saved: Path) -> None:
    loaded = load_compiled(saved / "saved")
    assert [spec.op for spec in loaded.specs] == ["pack", "conv", "global_pool", "linear", "unpack"]
    assert loaded.kernels["layer"].tolist()[1:4] == ["0", "2", "4"]


def test_the_one_c_file_is_the_whole_network(saved: Path) -> None:
    target = local_target()
    command = [*find_compiler(target), *build_flags(target), "-shared", "kernels.c", "-o", "again.so"]
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


@pytest.mark.parametrize("text", ["", "{", '{"content": {}}', "[]", '{"format": 2}', '{"format": 2, "content": {}}'])
def test_a_broken_manifest_is_named(saved: Path, text: str) -> None:
    (saved / "saved" / "manifest.json").write_text(text)
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json"):
        load_compiled(saved / "saved")


def test_an_altered_manifest_is_named_though_it_can_be_read(saved: Path) -> None:
    path = saved / "saved" / "manifest.json"
    text = path.read_text()
    arena = f'"arena": {load_compiled(saved / "saved").arena_bytes}'
    assert text.count(arena) == 1
    path.write_text(text.replace(arena, '"arena": 64'))
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json was altered"):
        load_compiled(saved / "saved")


@pytest.mark.parametrize(("version", "advice"), [(99, "update npas"), (1, "compile and save")])
def test_another_version_of_the_format_says_what_to_do(saved: Path, version: int, advice: str) -> None:
    path = saved / "saved" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": version}))
    with pytest.raises(ArtifactCorrupt, match=rf"format {version}; this version reads format {FORMAT}: {advice}"):
        load_compiled(saved / "saved")


def test_what_is_no_directory_is_named(saved: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"x\.npy is not a directory"):
        load_compiled(saved / "x.npy")
    with pytest.raises(ArtifactCorrupt, match="nowhere is not a directory"):
        load_compiled(saved / "nowhere")
    with pytest.raises(DirectoryUnwritable, match=r"x\.npy"):
        load_compiled(saved / "saved").save(saved / "x.npy")


def test_an_empty_directory_holds_no_network(tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json is missing"):
        load_compiled(tmp_path)


@pytest.mark.parametrize("name", ["kernels.c", "libmodel.so", "constants.safetensors", "manifest.json"])
def test_a_full_disk_leaves_the_earlier_network_as_it_was(
    saved: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = compile_model(nn.Conv2d(3, 4, 1), torch.randn(1, 3, 5, 5))
    before = {path.name: path.read_bytes() for path in (saved / "saved").iterdir()}

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_at(path: Path, text: str) -> int:
        return full() if path.name == name else path.write_bytes(text.encode())

    monkeypatch.setattr(Path, "write_text", full_at)
    if name == "libmodel.so":
        monkeypatch.setattr(artifact.shutil, "copyfile", full)
    if name == "constants.safetensors":
        monkeypatch.setattr(artifact, "save_file", full)
    with pytest.raises(DirectoryUnwritable, match=r"No space left on device.*untouched"):
        other.save(saved / "saved")
    assert {path.name: path.read_bytes() for path in (saved / "saved").iterdir()} == before


def test_a_network_for_another_processor_is_loaded_but_not_run(saved: Path) -> None:
    program, listing = artifact.read(saved / "saved")
    foreign = find_target("x86_avx2" if local_architecture() == "aarch64" else "aarch64_neon")
    CompiledModel(Program(program.library, program.constants, program.signature, foreign), listing).save(saved / "far")
    loaded = load_compiled(saved / "far")
    assert loaded.program.target == foreign
    assert loaded.kernels["layer"].tolist()[1:4] == ["0", "2", "4"]
    for use in (lambda: loaded(np.load(saved / "x.npy")), loaded.time, loaded.run_once):
        with pytest.raises(CannotRunHere, match=rf"{foreign.name}.*{local_target().name}.*build_standalone"):
            use()


def test_a_library_of_another_system_is_named(saved: Path) -> None:
    program, listing = artifact.read(saved / "saved")
    garbage = saved / "garbage.so"
    garbage.write_bytes(b"\x7fELF of some other system")
    program.library = garbage
    artifact.write(program, listing, saved / "saved")
    with pytest.raises(CannotRunHere, match=r"libmodel\.so cannot be loaded"):
        load_compiled(saved / "saved")


def test_a_network_saved_in_place_of_a_loaded_one_is_another(saved: Path) -> None:
    first = load_compiled(saved / "saved")
    model, x = nn.Conv2d(3, 20, 1), torch.randn(1, 3, 8, 8)
    compile_model(model, x).save(saved / "saved")
    second = load_compiled(saved / "saved")
    assert torch.allclose(second(x), model(x), atol=1e-5)
    assert (first(np.load(saved / "x.npy")) == np.load(saved / "y.npy")).all()
