from __future__ import annotations

from dataclasses import replace

from compiler.spec import KernelSpec
from latency_model.held_out import SHARE, is_held_out, position
from pruning import Sparsity

CONV = KernelSpec("conv", 64, 64, 8, 8, (3, 3), padding=(1, 1), epilogue=("relu",))


def test_decision_is_the_same_in_every_process_and_release() -> None:
    assert position(CONV) == 0.22972643016954591
    assert position(CONV.with_sparsity(Sparsity("block_punched(16x1)", 5))) == 0.15005694410680714


def test_about_a_quarter_is_held_out() -> None:
    specs = [replace(CONV, in_channels=i, out_channels=o) for i in range(1, 61) for o in range(1, 61)]
    share = sum(map(is_held_out, specs)) / len(specs)
    assert abs(share - SHARE) < 4 * (SHARE * (1 - SHARE) / len(specs)) ** 0.5


def test_what_is_the_same_in_every_network_is_never_held_out() -> None:
    specs = [KernelSpec(op, c, c, 1, 1) for op in ("linear", "pack", "unpack", "global_pool") for c in range(1, 50)]
    assert not any(map(is_held_out, specs))


def test_every_field_counts() -> None:
    others = [
        replace(CONV, **change)
        for change in (
            {"op": "linear"},
            {"in_channels": 65},
            {"width": 9},
            {"stride": (2, 2)},
            {"epilogue": ()},
            {"threads": 2},
            {"sparsity": Sparsity("block_punched(16x1)", 5)},
            {"sparsity": Sparsity("block_punched(16x1)", 5.5)},
        )
    ]
    assert len({position(spec) for spec in (CONV, *others)}) == len(others) + 1
