"""Gradient boosting on the logarithm of what the roofline leaves unexplained."""

from __future__ import annotations

from collections.abc import Sequence

import lightgbm
import numpy as np
import numpy.typing as npt

from latency_model.runner import Floats
from latency_model.trees import Forest, Tree

FOLDS = 8
DIVISIONS = 3
"""Divisions into folds by which the errors are judged; the ensemble is of the first."""
ROUNDS = 150
_PARAMETERS = {
    "objective": "huber",
    "alpha": 0.2,
    "learning_rate": 0.15,
    "num_leaves": 12,
    "min_data_in_leaf": 2,
    "extra_trees": True,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


class Boosting:
    """The mean of one LightGBM model a fold, each fitted without its fold.

    Args:
        texts: LightGBM's text form of each model.

    Raises:
        KeyError, ValueError: see `Tree.all_of`.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._forest = Forest([Tree.all_of(text) for text in texts])

    @classmethod
    def fit(cls, features: Floats, target: Floats, seed: int) -> tuple[Boosting, Floats]:
        """Fit to `features` [n, columns] and `target` [n].

        Returns:
            the ensemble, and for each row the mean prediction [n] of models that have not seen it: one a division
            into folds, since a single model is further off than the ensemble.
        """
        unseen = np.zeros(len(target))
        texts = []
        for division in range(DIVISIONS):
            folds = _folds(len(target), seed + division)
            for fold in range(min(FOLDS, len(target))):
                train, test = folds != fold, folds == fold
                model = _train(features[train], target[train], seed + FOLDS * division + fold)
                unseen[test] += np.asarray(model.predict(features[test], num_threads=1)) / DIVISIONS
                texts.append(model.model_to_string())
        return cls(texts[:FOLDS]), unseen

    @classmethod
    def single(cls, features: Floats, target: Floats, seed: int) -> Boosting:
        """One model, fitted to all rows."""
        return cls([_train(features, target, seed).model_to_string()])

    def predict(self, features: Floats) -> Floats:
        """Predictions [n] for `features` [n, columns]; a row's does not depend on the others."""
        total: Floats = sum(self._forest.predict(features), np.zeros(len(features)))
        return total / len(self.texts)

    def disagreement(self, features: Floats) -> Floats:
        """Standard deviation [n] between the models' predictions for `features` [n, columns]."""
        result: Floats = np.std(self._forest.predict(features), axis=0)
        return result


def _folds(count: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(count) % FOLDS


def _train(features: Floats, target: Floats, seed: int) -> lightgbm.Booster:
    return lightgbm.train({**_PARAMETERS, "seed": seed}, lightgbm.Dataset(features, target), ROUNDS)
