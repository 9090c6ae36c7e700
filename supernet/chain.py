"""A candidate as a chain of convolutions between channel spaces: the one place where widths are decided.

A *channel space* is a set of channels that live or die together: the filters of a producer, the input channels of its
consumers, and everything depthwise or added between them (methods: coupled set). Filter pruning of the producer and
channel pruning of the consumer narrow a space; the number of channels that survive follows from shapes and rates alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pruning import Sparsity
from supernet.errors import InvalidSpace
from supernet.layer import Activation, Layer, check_activation
from supernet.operators import Operator
from supernet.site import Site

_DENSE = Sparsity()


@dataclass(frozen=True)
class Selector:
    """Which node's weights rank the channels of a space, and how many of them survive."""

    node: int
    sparsity: Sparsity
    kept: int


@dataclass(frozen=True)
class ChannelSpace:
    """Channels that live or die together; `filters` selects first, `channels` among what is left."""

    width: int
    filters: Selector | None = None
    channels: Selector | None = None

    @property
    def kept(self) -> int:
        """How many channels survive."""
        return min([self.width, *(by.kept for by in (self.filters, self.channels) if by is not None)])


@dataclass(frozen=True)
class Node:
    """A layer with its widths before removal, between two channel spaces (indices).

    Attributes:
        layer: its sparsity is what masks the weights *after* removal.
        conv: index of the layer within its operator.
        operator: what fills the site; None for stem, head, pool and classifier.
    """

    layer: Layer
    source: int
    target: int
    conv: int = 0
    operator: Operator | None = None


@dataclass(frozen=True)
class Frame:
    """What surrounds the sites: stem (3x3) in front, head (1x1), global pool and classifier behind."""

    in_channels: int
    size: int
    classes: int
    stem_channels: int
    stem_stride: int
    stem_activation: Activation
    head_channels: int
    head_activation: Activation

    def __post_init__(self) -> None:
        counts = (self.in_channels, self.size, self.classes, self.stem_channels, self.stem_stride, self.head_channels)
        if min(counts) < 1:
            raise InvalidSpace(f"channels, stride, size and classes are at least 1, found {self}")
        for activation in (self.stem_activation, self.head_activation):
            check_activation(activation)


@dataclass(frozen=True)
class Chain:
    """Nodes in execution order and the channel spaces between them."""

    nodes: tuple[Node, ...]
    spaces: tuple[ChannelSpace, ...]

    @property
    def convolutions(self) -> tuple[Node, ...]:
        """All nodes but the last two, global pool and classifier."""
        return self.nodes[:-2]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers with the widths that survive."""
        widths = [space.kept for space in self.spaces]
        return tuple(_with_widths(node.layer, widths[node.source], widths[node.target]) for node in self.nodes)


def _with_widths(layer: Layer, in_channels: int, out_channels: int) -> Layer:
    if (layer.in_channels, layer.out_channels) == (in_channels, out_channels):
        return layer
    return replace(layer, in_channels=in_channels, out_channels=out_channels)


class _Builder:
    """Appends nodes to a chain."""

    def __init__(self, in_channels: int, size: int) -> None:
        self.nodes: list[Node] = []
        self.spaces = [ChannelSpace(in_channels)]
        self.size = size
        self.end = 0

    def append(
        self, layer: Layer, *, target: int | None = None, conv: int = 0, operator: Operator | None = None
    ) -> int:
        """Adds a node behind the last one, into a new space unless `target` names one; returns its index."""
        if target is None:
            self.spaces.append(ChannelSpace(layer.out_channels))
            target = len(self.spaces) - 1
        self.nodes.append(Node(layer, self.end, target, conv, operator))
        self.size, self.end = layer.output_size, target
        return len(self.nodes) - 1

    def append_site(self, index: int, site: Site, operator: Operator, sparsity: Sparsity) -> None:
        """Adds the convolutions of an operator; nothing for the identity."""
        entry = self.end
        convs = operator.convs(site)
        structural = sparsity.scheme.removes_filters or sparsity.scheme.removes_channels
        first = len(self.nodes)
        for i, conv in enumerate(convs):
            last = i == len(convs) - 1
            masked = conv.kind == "conv" and not structural
            layer = Layer(
                name=f"sites.{index}.conv{i + 1}",
                kind=conv.kind,
                in_channels=conv.in_channels,
                out_channels=conv.out_channels,
                size=self.size,
                kernel=conv.kernel,
                stride=conv.stride,
                activation=site.activation,
                residual=last and site.shortcut,
                sparsity=sparsity if masked else _DENSE,
                site=index,
            )
            tied = self.end if conv.kind == "depthwise" else entry if layer.residual else None
            self.append(layer, target=tied, conv=i, operator=operator)
        if structural:
            self._narrow(first, site, operator, sparsity)

    def _narrow(self, first: int, site: Site, operator: Operator, sparsity: Sparsity) -> None:
        filters = sparsity.scheme.removes_filters
        conv = operator.filter_conv(site) if filters else operator.channel_conv(site)
        assert conv is not None, f"{operator} does not offer {sparsity}; the space admits no such choice"
        shape = operator.convs(site)[conv].weight_shape
        selector = Selector(first + conv, sparsity, sparsity.scheme.kept_groups(shape, sparsity.rate))
        node = self.nodes[first + conv]
        if filters:
            self.spaces[node.target] = replace(self.spaces[node.target], filters=selector)
        else:
            self.spaces[node.source] = replace(self.spaces[node.source], channels=selector)


def build_chain(frame: Frame, sites: Sequence[Site], operators: Sequence[tuple[Operator, Sparsity]]) -> Chain:
    """The chain of stem, one operator a site, head, global pool and classifier.

    The choices must be legal at their sites; `SearchSpace.validate` decides that.
    """
    chain = _Builder(frame.in_channels, frame.size)
    chain.append(
        Layer(
            name="stem.conv1",
            kind="conv",
            in_channels=frame.in_channels,
            out_channels=frame.stem_channels,
            size=frame.size,
            kernel=3,
            stride=frame.stem_stride,
            activation=frame.stem_activation,
            residual=False,
            sparsity=_DENSE,
            site=None,
        )
    )
    for index, (site, (operator, sparsity)) in enumerate(zip(sites, operators, strict=True)):
        chain.append_site(index, site, operator, sparsity)
    width = chain.spaces[chain.end].width
    head = Layer(
        name="head.conv1",
        kind="conv",
        in_channels=width,
        out_channels=frame.head_channels,
        size=chain.size,
        kernel=1,
        stride=1,
        activation=frame.head_activation,
        residual=False,
        sparsity=_DENSE,
        site=None,
    )
    chain.append(head)
    pool = replace(head, name="pool", kind="global_pool", in_channels=head.out_channels, kernel=head.size)
    pool = replace(pool, activation="none")
    chain.append(pool, target=chain.end)
    chain.append(replace(pool, name="classifier", kind="linear", out_channels=frame.classes, size=1, kernel=1))
    return Chain(tuple(chain.nodes), tuple(chain.spaces))
