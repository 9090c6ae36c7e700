"""Models that are sums of decision trees, evaluated for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt

from latency_model.runner import Floats

Ints = npt.NDArray[np.int64]
TOGETHER = 1024
"""Rows that are worked on at a time."""


@dataclass(frozen=True)
class Tree:
    """A tree that asks at each node whether a feature is at most a threshold; if so, a row goes to the left.

    Attributes:
        features, thresholds: what each node asks [nodes]; none if the tree is a single leaf.
        children: what is to the left and to the right of each node [nodes, 2]: a later node, or -1 - the leaf's number.
        leaves: what the rows that end in each leaf get [leaves].
    """

    features: Ints
    thresholds: Floats
    children: Ints
    leaves: Floats

    @classmethod
    def all_of(cls, text: str) -> list[Tree]:
        """The trees of a model in LightGBM's text form, its features plain numbers that are never missing.

        Raises:
            KeyError, ValueError: if it is no such text.
        """
        blocks = text.partition("\nend of trees")[0].split("\nTree=")[1:]
        return [cls._of(dict(line.split("=", 1) for line in block.splitlines() if "=" in line)) for block in blocks]

    @classmethod
    def _of(cls, fields: dict[str, str]) -> Tree:
        def numbers(name: str) -> Floats:
            return np.array(fields[name].split(), dtype=np.float64)

        if int(fields["num_leaves"]) == 1:
            return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 2), np.int64), numbers("leaf_value"))
        children = np.stack([numbers("left_child"), numbers("right_child")], axis=1).astype(np.int64)
        return cls(numbers("split_feature").astype(np.int64), numbers("threshold"), children, numbers("leaf_value"))

    def depths(self) -> Ints:
        """How far each node is from the first [nodes]."""
        found = np.zeros(len(self.features), np.int64)
        for node, children in enumerate(self.children):
            found[children[children >= 0]] = found[node] + 1
        return found


class Forest:
    """Models that are walked through side by side: every node of every tree hands on a set of rows, a bit a row.

    However many nodes there are, their different questions are few, and each is asked once. That is several times as
    fast as walking row after row, and trees are added up in the same order, to the same bits.

    Args:
        models: the trees of each, at least one.
    """

    def __init__(self, models: Sequence[Sequence[Tree]]) -> None:
        trees = list(chain.from_iterable(models))
        nodes = sum(len(tree.features) for tree in trees)
        self._ends_of_models = np.cumsum([0, *map(len, models)]).tolist()
        self._values = np.zeros((len(trees), max(len(tree.leaves) for tree in trees)))
        self._roots, self._children, first = [], np.zeros((nodes, 2), np.int64), 0
        for number, tree in enumerate(trees):
            last = first + len(tree.features)
            leaf = nodes + (-1 - tree.children) * len(trees) + number
            self._values[number, : len(tree.leaves)] = tree.leaves
            self._roots.append(first if len(tree.features) else nodes + number)
            self._children[first:last] = np.where(tree.children < 0, leaf, tree.children + first)
            first = last
        depth = np.concatenate([tree.depths() for tree in trees])
        asked = [np.concatenate([tree.features for tree in trees]), np.concatenate([tree.thresholds for tree in trees])]
        (features, thresholds), question = np.unique(np.stack(asked), axis=1, return_inverse=True)
        levels = [np.flatnonzero(depth == level) for level in range(depth.max(initial=-1) + 1)]
        self._levels = [(nodes, question.reshape(-1)[nodes], *self._children[nodes].T) for nodes in levels]
        self._questions = len(features)
        ends = np.searchsorted(features, np.unique(features), side="right").tolist()
        self._asked = [
            (int(features[at]), slice(at, end), thresholds[at:end, None]) for at, end in pairwise([0, *ends])
        ]

    def predict(self, features: Floats) -> Floats:
        """The prediction of each model for each row [models, rows] of `features` [rows, columns]."""
        models = len(self._ends_of_models) - 1
        parts = [self._predict(features[at : at + TOGETHER]) for at in range(0, len(features), TOGETHER)]
        return np.concatenate([np.zeros((models, 0)), *parts], axis=1)

    def _predict(self, features: Floats) -> Floats:
        columns = np.ascontiguousarray(features.T)
        answers = np.empty((self._questions, len(features)), np.bool_)
        for feature, questions, thresholds in self._asked:
            np.less_equal(columns[feature], thresholds, out=answers[questions])
        yes = np.packbits(answers, axis=1)
        rows = np.zeros((len(self._children) + self._values.size, yes.shape[1]), np.uint8)
        rows[self._roots] = 255
        for nodes, questions, to_left, to_right in self._levels:
            here = rows.take(nodes, axis=0)
            left = here & yes.take(questions, axis=0)
            rows[to_left] = left
            rows[to_right] = here ^ left
        ended = rows[len(self._children) :].reshape(*self._values.T.shape, -1)
        sums = [self._sum(start, ended[:, start:end]) for start, end in pairwise(self._ends_of_models)]
        return np.stack(sums)[:, : len(features)]

    def _sum(self, start: int, ended: npt.NDArray[np.uint8]) -> Floats:
        """The sum [rows] of the trees from `start` on, from the rows of each leaf [leaves, trees, bytes]."""
        values = self._values[start : start + ended.shape[1]]
        first = np.arange(0, values.size, values.shape[1])[:, None]
        result: Floats = values.ravel().take(first + _numbers(ended)).sum(axis=0)
        return result


def _numbers(ended: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Numbers of the leaves in which rows ended [trees, rows], from the rows of each leaf [leaves, trees, bytes].

    Rows that only fill the last byte are there too: of a single row, numpy would add up the trees in another order.
    """
    found = np.zeros((ended.shape[1], 8 * ended.shape[2]), np.uint8)
    for digit in reversed(range((len(ended) - 1).bit_length())):
        having = np.bitwise_or.reduce([ended[leaf] for leaf in range(len(ended)) if leaf >> digit & 1], axis=0)
        found += found  # numpy adds bytes several times as fast as it shifts them
        found |= np.unpackbits(having, axis=1)
    return found
