"""Channels that are zero, or that nobody reads, are removed from every tensor that has them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compiler.graph import (
    Activation,
    Add,
    Arithmetic,
    Array,
    Conv,
    GlobalPool,
    Graph,
    Node,
    Pool,
    Resize,
    Scale,
    TablePool,
)

Flags = npt.NDArray[np.bool_]

ONE_TO_ONE = (Activation, Add, Arithmetic, GlobalPool, Pool, Resize, Scale, TablePool)
"""Operators whose output channel k depends on channel k of their inputs alone."""
FROM_ZERO = frozenset(
    {
        *(
            "relu",
            "relu6",
            "hard_swish",
            "silu",
            "gelu",
            "gelu_tanh",
            "tanh",
            "mish",
            "leaky_relu",
            "elu",
            "hard_shrink",
        ),
        *("soft_shrink", "abs", "neg", "square", "sqrt", "sign", "sin", "floor", "ceil", "round"),
        *("asin", "asinh", "atan", "atanh", "erf", "expm1", "frac", "log1p", "sinh", "tan", "trunc"),
        *("add", "mul", "sub", "max", "min", "less", "unequal", "keep_if", "keep_unless"),
    }
)
"""Functions that are zero where their arguments are."""


def drop_dead_channels(graph: Graph) -> Graph:
    """Remove, until nothing changes, channels that all tensors which share them can do without.

    A channel goes if no convolution that reads one of these tensors has a weight for it, or if all of the tensors are
    zero there: their filters and biases are, and what follows keeps zeros. Tensors that the user hands over or is
    handed back, and those that other operators read or write, stay whole. One channel always stays.
    """
    while True:
        smaller = _Removal(graph).result()
        if smaller is graph:
            return graph
        graph = smaller


@dataclass(frozen=True)
class _Removal:
    """One round."""

    graph: Graph

    def result(self) -> Graph:
        groups, frozen = self._groups()
        kept: dict[str, npt.NDArray[np.int64]] = {}
        for root, tensors in groups.items():
            if root in frozen:
                continue
            channels = self.graph.shape_of(tensors[0])[0]
            members = frozenset(tensors)
            live = self._needed(members, channels) & ~self._zero(members, channels)
            if not live.any():
                live[0] = True
            if not live.all():
                kept.update(dict.fromkeys(tensors, np.flatnonzero(live)))
        return self._without(kept) if kept else self.graph

    def _groups(self) -> tuple[dict[str, list[str]], set[str]]:
        """Tensors that share their channels, by one of them, and the names of groups that have to stay whole."""
        joined: dict[str, str] = {}

        def root(name: str) -> str:
            while name in joined:
                name = joined[name]
            return name

        whole = {*self.graph.inputs, *self.graph.outputs}
        for node in self.graph.nodes:
            tied = [node.name, *self._tied(node)]
            for name in tied[1:]:
                if root(name) != root(node.name):
                    joined[root(name)] = root(node.name)
            if not isinstance(node.op, (Conv, *ONE_TO_ONE)):
                whole.update((node.name, *node.inputs))
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for name in (*self.graph.inputs, *(node.name for node in self.graph.nodes)):
            groups[root(name)].append(name)
        return dict(groups), {root(name) for name in whole}

    def _tied(self, node: Node) -> tuple[str, ...]:
        """Inputs that have the same channels as the output."""
        if isinstance(node.op, Conv):
            return node.inputs if node.op.groups > 1 else node.inputs[1:]
        return node.inputs if isinstance(node.op, ONE_TO_ONE) else ()

    def _products(self, tensors: frozenset[str]) -> Iterator[Array]:
        """Weights of the convolutions that read one of the tensors."""
        for node in self.graph.nodes:
            if isinstance(node.op, Conv) and node.op.groups == 1 and node.inputs[0] in tensors:
                yield self.graph.constants[node.op.weight]

    def _needed(self, tensors: frozenset[str], channels: int) -> Flags:
        needed = np.zeros(channels, bool)
        for weight in self._products(tensors):
            needed |= (weight != 0).any((0, 2, 3))
        return needed

    def _zero(self, tensors: frozenset[str], channels: int) -> Flags:
        zero = np.ones(channels, bool)
        for node in (node for node in self.graph.nodes if node.name in tensors):
            op = node.op
            functions = getattr(op, "epilogue", ())
            if isinstance(op, Conv):
                if op.groups == 1:
                    zero &= ~(self.graph.constants[op.weight] != 0).any((1, 2, 3))
                if op.bias is not None:
                    zero &= self.graph.constants[op.bias] == 0
            if isinstance(op, (Activation, Arithmetic)):
                functions = (op.kind, *functions)
            if isinstance(op, TablePool) and not all(count for _, count, _ in (*op.rows, *op.cols)):
                zero[:] = False  # the maximum of nothing is -inf
            if any(function.partition("(")[0] not in FROM_ZERO for function in functions):
                zero[:] = False
        return zero

    def _without(self, kept: dict[str, npt.NDArray[np.int64]]) -> Graph:
        constants = dict(self.graph.constants)
        nodes = []
        for node in self.graph.nodes:
            op, keep = node.op, kept.get(node.name)
            if isinstance(op, Conv) and isinstance(node.op, Conv):
                weight, bias = constants[op.weight], op.bias
                if keep is not None:
                    weight = weight[keep]
                    if bias is not None:
                        constants[f"{node.name}.live_bias"] = constants[bias][keep]
                        bias = f"{node.name}.live_bias"
                    op = replace(op, groups=len(keep) if op.groups > 1 else 1, bias=bias)
                if node.op.groups == 1 and node.inputs[0] in kept:
                    weight = weight[:, kept[node.inputs[0]]]
                if weight is not constants[op.weight]:
                    constants[f"{node.name}.live"] = weight
                    op = replace(op, weight=f"{node.name}.live")
            shape = node.shape if keep is None else (len(keep), *node.shape[1:])
            nodes.append(replace(node, op=op, shape=shape))
        return self.graph.rewrite(nodes, constants=constants)
