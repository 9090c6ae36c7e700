"""Which channels survive and which weights are masked, decided by the shared dense weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.chain import Chain, ChannelSpace, Node


@dataclass(frozen=True)
class Selection:
    """What is left of a chain's weights.

    Attributes:
        channels: for each channel space the survivors, bool [width]; None where all survive.
        masks: for each convolution a mask of its weight before removal, in the weight's dtype, zero also where channels
            were removed; None where the weight is dense.
    """

    channels: tuple[Tensor | None, ...]
    masks: tuple[Tensor | None, ...]


class Selector:
    """Selects by energy, and remembers the outcome until `forget`.

    First the channels, along the chain: filters by their energy over the inputs that survived, then input channels
    among the filters that survived. Then the masks of what is left, so that their counts are exact for the shrunken
    shapes.

    Args:
        weight: gives the dense weight of a node, [out, in / groups, kernel, kernel], before removal.
    """

    def __init__(self, weight: Callable[[Node], Tensor]) -> None:
        self._weight = weight
        self._memory: dict[str, Tensor] = {}

    def forget(self) -> None:
        """Drops what is remembered; the weights have changed."""
        self._memory.clear()

    @torch.no_grad()
    def __call__(self, chain: Chain) -> Selection:
        """The selection of a chain."""
        channels: list[Tensor | None] = []
        keys: list[str] = []
        for space in chain.spaces:
            key, survivors = self._channels(space, chain.nodes, keys, channels)
            keys.append(key)
            channels.append(survivors)
        masks = tuple(self._mask(node, keys, channels) for node in chain.convolutions)
        return Selection(tuple(channels), masks)

    def _channels(
        self, space: ChannelSpace, nodes: Sequence[Node], keys: Sequence[str], channels: Sequence[Tensor | None]
    ) -> tuple[str, Tensor | None]:
        """Key (what the outcome depends on, "" for all) and survivors of a space whose predecessors are decided."""
        key, survivors = "", None
        if (by := space.filters) is not None:
            node = nodes[by.node]
            key = f"<{_name(node)} {by.sparsity} {keys[node.source]}>"
            if key not in self._memory:
                weight = self._weight(node)
                inputs = channels[node.source]
                scores = by.sparsity.scheme.scores(weight if inputs is None else weight[:, inputs])
                self._memory[key] = by.sparsity.scheme.select(scores, weight.shape, by.sparsity.rate)
            survivors = self._memory[key]
        if (by := space.channels) is not None:
            key = f"<{_name(nodes[by.node])} {by.sparsity} {key}>"
            if key not in self._memory:
                weight = self._weight(nodes[by.node])
                scores = by.sparsity.scheme.scores(weight)
                alive = torch.ones_like(scores, dtype=torch.bool) if survivors is None else survivors
                scores = scores.masked_fill(~alive, -1.0)
                self._memory[key] = by.sparsity.scheme.select(scores, weight.shape, by.sparsity.rate) & alive
            survivors = self._memory[key]
        return key, survivors

    def _mask(self, node: Node, keys: Sequence[str], channels: Sequence[Tensor | None]) -> Tensor | None:
        sparsity = node.layer.sparsity
        if sparsity.dense:
            return None
        key = f"{_name(node)} {sparsity} {keys[node.source]} {keys[node.target]}"
        if key not in self._memory:
            weight = self._weight(node)
            rows = _indices(channels[node.target], weight.shape[0], weight.device).unsqueeze(1)
            columns = _indices(channels[node.source], weight.shape[1], weight.device)
            mask = torch.zeros_like(weight)
            mask[rows, columns] = sparsity.scheme.mask(weight[rows, columns], sparsity.rate).to(weight.dtype)
            self._memory[key] = mask
        return self._memory[key]


def _name(node: Node) -> str:
    return f"{node.layer.name} {node.operator}"


def _indices(survivors: Tensor | None, width: int, device: torch.device) -> Tensor:
    return torch.arange(width, device=device) if survivors is None else survivors.nonzero().squeeze(1)
