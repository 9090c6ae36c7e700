from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_model.runner import Floats
from latency_model.trees import TOGETHER, Forest, Tree

GENERATOR = np.random.default_rng(0)
FEATURES = np.round(GENERATOR.normal(size=(300, 7)), 1)
TARGET = np.sin(3 * FEATURES[:, 0]) + FEATURES[:, 1] * (FEATURES[:, 2] > 0) + 0.1 * GENERATOR.normal(size=300)


def boosted(rounds: int, leaves: int, target: Floats = TARGET) -> lightgbm.Booster:
    parameters = {"num_leaves": leaves, "min_data_in_leaf": 2, "extra_trees": True, "verbosity": -1, "num_threads": 1}
    return lightgbm.train(parameters, lightgbm.Dataset(FEATURES, target), rounds)


MODELS = [boosted(20, 12), boosted(1, 2), boosted(7, 31), boosted(3, 5, np.full(300, 2.5))]
FOREST = Forest([Tree.all_of(model.model_to_string()) for model in MODELS])


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_predictions_are_those_of_lightgbm_bit_for_bit(seed: int, rows: int) -> None:
    """On the grid of the training rows, so that some numbers lie on a threshold's side by less than rounding."""
    generator = np.random.default_rng(seed)
    features = np.round(generator.normal(size=(rows, 7)), int(generator.integers(1, 4)))
    expected = [np.asarray(model.predict(features, num_threads=1)) for model in MODELS]
    np.testing.assert_array_equal(FOREST.predict(features), expected)


def test_more_rows_than_are_worked_on_together() -> None:
    features = GENERATOR.normal(size=(2 * TOGETHER + 3, 7))
    expected = [np.asarray(model.predict(features, num_threads=1)) for model in MODELS]
    np.testing.assert_array_equal(FOREST.predict(features), expected)
    assert FOREST.predict(features[:0]).shape == (len(MODELS), 0)


def test_a_number_that_equals_the_threshold_goes_left() -> None:
    tree = Tree(np.array([1, 0]), np.array([0.5, 2.0]), np.array([[1, -1], [-2, -3]]), np.array([1.0, 10.0, 100.0]))
    rows = np.array([[2.0, 0.5], [np.nextafter(2.0, 3.0), 0.5], [2.0, np.nextafter(0.5, 1.0)]])
    np.testing.assert_array_equal(Forest([[tree]]).predict(rows), [[10.0, 100.0, 1.0]])
    np.testing.assert_array_equal(
        Forest([[tree, tree], [tree]]).predict(rows), [[20.0, 200.0, 2.0], [10.0, 100.0, 1.0]]
    )


def test_text_that_is_cut_off_is_refused() -> None:
    text = MODELS[0].model_to_string()
    with pytest.raises(KeyError, match="leaf_value"):
        Tree.all_of(text[: text.index("\nleaf_value=")])
