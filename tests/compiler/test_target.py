"""Which code this processor can run."""

import platform
from dataclasses import replace

import pytest

from compiler import find_target, local_target
from compiler.errors import CannotRunHere, UnknownTarget
from compiler.runtime import require_here
from compiler.target import TARGETS, local_architecture


def test_this_processor_runs_its_own_target_and_no_wider_one() -> None:
    assert local_target().runs_here
    assert not local_target().is_foreign
    wider = replace(local_target(), name="wider", vector=4 * local_target().vector)
    assert not wider.runs_here
    with pytest.raises(CannotRunHere, match="wider"):
        require_here(wider)


def test_targets_of_another_family_do_not_run_here() -> None:
    foreign = [target for target in TARGETS.values() if target.architecture != local_architecture()]
    assert foreign
    assert all(target.is_foreign and not target.runs_here for target in foreign)


@pytest.mark.parametrize(
    ("machine", "family"),
    [("x86_64", "x86_64"), ("AMD64", "x86_64"), ("arm64", "aarch64"), ("aarch64", "aarch64"), ("riscv64", "riscv64")],
)
def test_families_have_one_name_on_every_system(machine: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert local_architecture() == family
    assert find_target("aarch64_neon").is_foreign == (family != "aarch64")


def test_the_environment_chooses_what_local_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPAS_TARGET", "aarch64_neon")
    assert find_target("local") == TARGETS["aarch64_neon"]


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(UnknownTarget, match=r"local, x86_avx512, x86_avx2, x86_sse, aarch64_neon"):
        find_target("vax")
