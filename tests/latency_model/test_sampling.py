from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compiler.spec import KernelSpec
from compiler.target import AVX512
from latency_model.errors import TooFewMeasurements
from latency_model.held_out import is_held_out
from latency_model.sampling import choose_kernels, spread_out

Pool = tuple[KernelSpec, ...]


def test_selection_is_distinct_and_split_by_the_kernel_alone(pool: Pool) -> None:
    selection = choose_kernels([*pool, *pool], AVX512, train=50, held_out=20, seed=1)
    assert len(selection.train) == len(set(selection.train)) == 50
    assert len(selection.held_out) == len(set(selection.held_out)) == 20
    assert all(map(is_held_out, selection.held_out))
    assert not any(map(is_held_out, selection.train))
    assert selection.specs == (*selection.train, *selection.held_out)


def test_same_seed_same_kernels_and_judges_never_change(pool: Pool) -> None:
    first, again, other = (choose_kernels(pool, AVX512, train=40, held_out=15, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.train != other.train
    assert first.held_out == other.held_out


def test_small_pool_gives_all_it_has(pool: Pool) -> None:
    few = pool[:30]
    selection = choose_kernels(few, AVX512, train=1000, held_out=1000)
    assert set(selection.specs) == set(few)


def test_every_operation_is_trained_on_however_rare(pool: Pool) -> None:
    rare = [KernelSpec(op, 16, 16, 8, 8) for op in ("pack", "unpack", "global_pool", "add", "activation", "max_pool")]
    selection = choose_kernels([*pool, *rare], AVX512, train=8, held_out=20)
    assert set(rare) <= set(selection.train)
    assert {spec.op for spec in selection.held_out} == {"conv", "depthwise"}


def test_pool_without_anything_to_train_on_is_refused(pool: Pool) -> None:
    judges = [spec for spec in pool if is_held_out(spec)]
    with pytest.raises(TooFewMeasurements, match=f"none of the {len(judges)}"):
        choose_kernels(judges, AVX512, train=5, held_out=5)


def test_small_clusters_are_reached_far_earlier_than_by_even_draws() -> None:
    generator = np.random.default_rng(0)
    centres = 10 * np.eye(8)
    rare = np.concatenate([centre + 0.1 * generator.standard_normal((2, 8)) for centre in centres])
    features = np.concatenate([0.1 * generator.standard_normal((984, 8)), rare])
    chosen = spread_out(features, [0], 12, np.random.default_rng(1))
    clusters = {(index - 984) // 2 for index in chosen if index >= 984}
    assert clusters == set(range(8))


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.just(2)), elements=st.sampled_from([0.0, 1.0])), st.data()
)
def test_no_row_is_drawn_twice_even_if_rows_are_equal(features: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(features)))
    chosen = spread_out(features, [0], count, np.random.default_rng(0))
    assert len(set(chosen)) == count
