"""The profile covers every kernel that a candidate may be compiled to."""

from itertools import pairwise

from compiler import KernelSpec, compile_specs, local_target
from latency_model import choose_kernels
from scripts.profile import with_conversions, with_relatives

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
