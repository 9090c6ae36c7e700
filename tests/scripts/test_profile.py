"""The profile covers every kernel that a candidate may be compiled to."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr

from compiler import KernelSpec, compile_specs, local_target
from latency_model import KernelStore, choose_kernels
from scripts import cli
from scripts.profile import spread_candidates, with_conversions, with_relatives
from search import kernel_specs
from supernet import make_space

TINY = Path(__file__).parents[2] / "conf" / "space" / "tiny.yaml"
CONV = KernelSpec("conv", 12, 20, 9, 9, (3, 3), padding=(1, 1))
LINEAR = KernelSpec("linear", 20, 10, 1, 1)


def test_changes_of_layout_are_timed_even_where_no_candidate_of_the_pool_has_one() -> None:
    pool = with_conversions([CONV, LINEAR, CONV])
    changes = [spec for spec in pool if spec.op == "convert"]
    assert pool[:2] == [CONV, LINEAR]
    assert {(spec.reads, spec.writes) for spec in changes} == {("blocked", "planar"), ("planar", "blocked")}
    assert {(spec.in_channels, spec.height, spec.width) for spec in changes} == {(12, 9, 9)}
    chosen = choose_kernels(with_relatives(pool), local_target(), train=12, held_out=4)
    assert "convert" in {spec.op for spec in chosen.train}


def test_changes_of_layout_can_be_timed_alone() -> None:
    changes = [spec for spec in with_conversions([CONV]) if spec.op == "convert"]
    table = compile_specs(changes).kernels
    asked = table[table.spec_index >= 0].sort_values("spec_index")
    assert [KernelSpec.from_dict(row) for _, row in asked.iterrows()] == changes
    assert all(first < second for first, second in pairwise(asked.index))


def test_networks_are_spread_from_the_smallest_to_the_largest() -> None:
    tiny = make_space(yaml.safe_load(TINY.read_text()), (1, 32, 32), 10)
    candidates = spread_candidates(tiny, 41, np.random.default_rng(0))
    work = [sum(spec.macs_kept for spec in kernel_specs(tiny, candidate)) for candidate in candidates]
    assert (candidates[0], candidates[-1]) == (tiny.smallest(), tiny.largest())
    assert spearmanr(range(41), work).statistic > 0.8
    assert max(np.diff(np.sort(work))) < 0.25 * (max(work) - min(work))


FRAGILE = """#!{python}
import os, pathlib, sys
lives = pathlib.Path({lives!r})
left = [int(word) for word in lives.read_text().split()]
whole = float(sys.argv[-1]) < 0.01  # networks get a fifth of the time of kernels
if left[whole] == 0:
    sys.exit("error: device offline")
left[whole] -= 1
lives.write_text(" ".join(map(str, left)))
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_device_that_dies_again_and_again_is_profiled_by_the_same_command(tmp_path, capsys):
    lives, program, run_dir = tmp_path / "lives", tmp_path / "fragile", tmp_path / "run"
    program.write_text(FRAGILE.format(python=sys.executable, lives=str(lives)))
    program.chmod(0o755)
    command = [
        "profile",
        "device=ssh",
        "device.target=local",
        "device.runner.push=[]",
        f"device.runner.run='{program} {{local}}/network -s {{seconds}}'",
        "space.stages=[{sites: 2, channels: 16, stride: 2, shortcut: true, activation: relu}]",
        "space.operators=[conv1x1,conv3x3]",
        "profile.kernels=20",
        "profile.held_out=5",
        "profile.networks=3",
        "profile.seconds=0.02",
        f"run_dir={run_dir}",
    ]
    kept, rounds = [], []
    for count in ("1 0", "99 4", "99 0", "99 5"):
        lives.write_text(count)
        with pytest.raises(SystemExit):
            cli.main(command)
        shown = " ".join(line.strip("│╭╮╰╯─ ") for line in capsys.readouterr().err.splitlines())
        assert "DeviceLost" in shown
        assert "error: device offline" in shown
        assert "the same command again to go on" in shown
        kept.append(KernelStore(run_dir / "kernels.parquet").read()["network"].nunique())
        path = run_dir / "networks.json"
        rounds.append([row["rounds"] for row in json.loads(path.read_text())] if path.exists() else [])
    assert kept[0] == 1
    assert kept[1] == kept[2] == kept[3] > 1
    assert rounds == [[], [2, 1, 1], [2, 1, 1], [3, 3, 3]]
    lives.write_text("0 6")
    cli.main([*command, "device.runner.timeout_s=99"])
    assert "goes on where it was stopped" in capsys.readouterr().out
    rows = json.loads((run_dir / "networks.json").read_text())
    assert [row["rounds"] for row in rows] == [5, 5, 5]
    assert all(row["measured_ms"] > 0 for row in rows)
    assert lives.read_text() == "0 0"
