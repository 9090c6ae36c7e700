"""Gradient boosting on the logarithm of what the roofline leaves unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np
import numpy.typing as npt

from latency_model.runner import Floats

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


@dataclass(frozen=True)
class Boosting:
    """The mean of one LightGBM model a fold, each fitted without its fold."""

    models: tuple[lightgbm.Booster, ...]

    @classmethod
    def fit(cls, features: Floats, target: Floats, seed: int) -> tuple[Boosting, Floats]:
        """Fit to `features` [n, columns] and `target` [n].

        Returns:
            the ensemble, and for each row the mean prediction [n] of models that have not seen it: one a division
            into folds, since a single model is further off than the ensemble.
        """
        unseen = np.zeros(len(target))
        models = []
        for division in range(DIVISIONS):
            folds = _folds(len(target), seed + division)
            for fold in range(min(FOLDS, len(target))):
                train, test = folds != fold, folds == fold
                data = lightgbm.Dataset(features[train], target[train])
                model = lightgbm.train({**_PARAMETERS, "seed": seed + FOLDS * division + fold}, data, ROUNDS)
                unseen[test] += _predict(model, features[test]) / DIVISIONS
                models.append(model)
        return cls(tuple(models[:FOLDS])), unseen

    def predict(self, features: Floats) -> Floats:
        """Predictions [n] for `features` [n, columns]; a row's does not depend on the others."""
        total = np.zeros(len(features))
        for model in self.models:
            total += _predict(model, features)
        return total / len(self.models)

    def disagreement(self, features: Floats) -> Floats:
        """Standard deviation [n] between the models' predictions for `features` [n, columns]."""
        result: Floats = np.std([_predict(model, features) for model in self.models], axis=0)
        return result

    def to_texts(self) -> list[str]:
        """LightGBM's text form of each model."""
        return [model.model_to_string() for model in self.models]

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> Boosting:
        """Inverse of `to_texts`."""
        return cls(tuple(lightgbm.Booster(model_str=text) for text in texts))


def _folds(count: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(count) % FOLDS


def _predict(model: lightgbm.Booster, features: Floats) -> Floats:
    return np.asarray(model.predict(features, num_threads=1), dtype=np.float64)
