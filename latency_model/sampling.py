"""Which kernels to time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from compiler import KernelSpec, Target
from latency_model.errors import TooFewMeasurements
from latency_model.features import shape_matrix
from latency_model.held_out import is_held_out, position
from latency_model.runner import Floats


@dataclass(frozen=True)
class Selection:
    """Kernels to time, by what they are for."""

    train: tuple[KernelSpec, ...]
    held_out: tuple[KernelSpec, ...]

    @property
    def specs(self) -> tuple[KernelSpec, ...]:
        """All of them."""
        return (*self.train, *self.held_out)


def choose_kernels(
    pool: Iterable[KernelSpec], target: Target, *, train: int, held_out: int, seed: int = 0
) -> Selection:
    """Choose from the kernels of a search space which to time.

    Kernels to judge by are those of the pool that `is_held_out` names, in the fixed order of their `position`: an even
    draw that stays the same from run to run. Kernels to train on are chosen one after another with a probability that
    grows with the squared distance in feature space to the nearest one chosen (the seeding of k-means++, Arthur &
    Vassilvitskii 2007), so that they cover shapes, remainders, schemes and rates without collecting outliers only.
    Every operation of the pool is among them.

    Args:
        pool: kernels that occur in the space; repetitions count once.
        target: what they are compiled for.
        train, held_out: how many of each; a smaller pool gives all it has, and each operation one at least.
        seed: of the choice of `train`.

    Raises:
        TooFewMeasurements: if the pool has nothing to train on.
    """
    distinct = list(dict.fromkeys(pool))
    judges = sorted((spec for spec in distinct if is_held_out(spec)), key=position)[:held_out]
    rest = [spec for spec in distinct if not is_held_out(spec)]
    if not rest:
        raise TooFewMeasurements(f"none of the {len(distinct)} kernels given may be trained on; give more of the space")
    first = list({spec.op: index for index, spec in enumerate(rest)}.values())
    count = max(len(first), min(train, len(rest)))
    chosen = spread_out(_standardised(shape_matrix(rest, target)), first, count, np.random.default_rng(seed))
    return Selection(tuple(rest[index] for index in chosen), tuple(judges))


def spread_out(features: Floats, first: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
    """Indices of `count` rows of `features` [rows, columns].

    After the indices in `first`, each is drawn with a probability in proportion to its squared distance to the nearest
    one before.
    """
    chosen = list(first)
    nearest = np.min([_squared_distance(features, index) for index in chosen], axis=0)
    while len(chosen) < count:
        weights = nearest if nearest.sum() > 0 else _unchosen(len(features), chosen)
        chosen.append(int(generator.choice(len(features), p=weights / weights.sum())))
        nearest = np.minimum(nearest, _squared_distance(features, chosen[-1]))
    return chosen


def _squared_distance(features: Floats, index: int) -> Floats:
    distance: Floats = ((features - features[index]) ** 2).sum(axis=1)
    return distance


def _unchosen(size: int, chosen: Sequence[int]) -> Floats:
    weights = np.ones(size)
    weights[list(chosen)] = 0
    return weights


def _standardised(features: Floats) -> Floats:
    deviation = features.std(axis=0)
    result: Floats = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return result
