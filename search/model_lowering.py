"""From a candidate of a `ModelSpace` to the kernels of its network, without building or compiling it.

The network is captured once. A candidate then changes what its kernels are: widths, operators and sparsities. Where the
channels of a tensor cannot be told from the layers around it (behind movements of data), the full width stays, so that
a latency is predicted too high rather than too low; winners are measured anyway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import nn

from compiler import Call, KernelSpec, Target, graph_calls, sequence
from compiler.capture import capture
from compiler.graph import Shape
from compiler.passes import WIDTH_KEEPING
from compiler.spec import CONVOLUTIONS
from pruning import Sparsity
from search.structure import reached_structure
from supernet import Candidate, ModelSpace
from supernet.model_space import LayerSite, WidthSite, width_left

TIMED_ALONE = frozenset(
    {"max_pool", "avg_pool", "avg_pool_valid", "global_pool", "add", "scale", "activation", "convert", "pack", "unpack"}
)
"""Kernels, beside convolutions, that can be timed by themselves; others are left out, and are in the overhead that the
predictor fits to whole networks."""
_WIDTH_KEEPING_OPS = frozenset({"max_pool", "avg_pool", "avg_pool_valid", "global_pool", "add", "scale", "activation"})


@dataclass(frozen=True)
class _Site:
    index: int
    site: LayerSite


class ModelLowering:
    """A captured network, and the kernels of its candidates.

    Raises:
        CaptureFailed, UnsupportedOperator, InvalidWeights, MixedSamples: as for `compile_model`.
    """

    def __init__(self, space: ModelSpace, model: nn.Module, target: Target) -> None:
        graph = capture(model, (space.example,))
        for transform in WIDTH_KEEPING:
            graph = transform(graph)
        self._calls = graph_calls(graph)
        self._inputs: Mapping[str, Shape] = graph.inputs
        self._outputs = graph.outputs
        self._space = space
        self._layers = dict(model.named_modules())
        self._target = target
        self._sites = {site.name: _Site(i, site) for i, site in enumerate(space.sites) if isinstance(site, LayerSite)}
        self._ends: dict[tuple[str, int], tuple[int, int]] = {}
        for index, width in enumerate(space.sites):
            if isinstance(width, WidthSite):
                for member in width.group.members:
                    if member.tensor == "weight":
                        axis, each = member.axis, len(member.units) // width.group.size
                        self._ends[member.module, axis] = index, each

    def kernel_specs(self, candidate: Candidate) -> tuple[KernelSpec, ...]:
        """The kernels in execution order, for one image.

        Raises:
            InvalidCandidate: the candidate is not of the space.
        """
        self._space.validate(candidate)
        widths: dict[str, int] = {}
        calls = [changed for call in self._calls for changed in self._changed(call, candidate, widths)]
        ordered = sequence(calls, self._inputs, self._outputs, self._target)
        return tuple(call.spec for call in ordered if call.spec.op in CONVOLUTIONS or call.spec.op in TIMED_ALONE)

    def _changed(self, call: Call, candidate: Candidate, widths: dict[str, int]) -> Iterator[Call]:
        """The calls that stand in the place of one; `widths` are those of the tensors that became narrower."""
        spec = call.spec
        if spec.op not in CONVOLUTIONS:
            left = widths.get(call.inputs[0]) if call.inputs else None
            if left is not None and spec.op in _WIDTH_KEEPING_OPS:
                widths[call.output] = left
                spec = replace(spec, in_channels=left, out_channels=left)
            yield replace(call, spec=spec)
            return
        filters = self._left(call.layer, 0, candidate, spec.out_channels)
        channels = filters if spec.op == "depthwise" else self._channels(call, candidate)
        if filters != spec.out_channels:
            widths[call.output] = filters
        groups = filters if spec.op == "depthwise" else spec.groups
        spec = replace(spec, in_channels=channels, out_channels=filters, groups=groups)
        known = self._sites.get(call.layer)
        if known is None:
            yield replace(call, spec=spec)
            return
        choice = candidate.choices[known.index]
        if choice.operator == "keep":
            linear = isinstance(known.site.layer, nn.Linear)
            shape = (filters, math.prod(spec.weight_shape[1:])) if linear else spec.weight_shape
            yield replace(call, spec=_pruned(spec, choice.sparsity, shape))
            return
        yield from self._replaced(call, spec, known.site, choice.operator, choice.sparsity)

    def _replaced(
        self, call: Call, spec: KernelSpec, site: LayerSite, operator: str, sparsity: Sparsity
    ) -> Iterator[Call]:
        """The convolutions of an operator in a row; what was fused behind the layer is fused behind the last."""
        convs = site.replacements[operator]
        tensor, channels, (height, width) = call.inputs[0], spec.in_channels, (spec.height, spec.width)
        for i, conv in enumerate(convs):
            last = i == len(convs) - 1
            depthwise = conv.kind == "depthwise"
            filters = spec.out_channels if last else channels if depthwise else conv.out_channels
            one = KernelSpec(
                op=conv.kind,
                in_channels=channels,
                out_channels=filters,
                height=height,
                width=width,
                kernel=(conv.kernel, conv.kernel),
                stride=(conv.stride, conv.stride),
                padding=(conv.kernel // 2, conv.kernel // 2),
                groups=channels if depthwise else 1,
                epilogue=spec.epilogue if last else (),
            )
            output = call.output if last else f"{call.output}.{i}"
            inputs = (tensor, *call.inputs[1:]) if last else (tensor,)
            yield Call(
                f"{call.layer}.{i}", one if depthwise else _pruned(one, sparsity, one.weight_shape), inputs, output
            )
            tensor, channels, (height, width) = output, filters, one.out_size

    def _channels(self, call: Call, candidate: Candidate) -> int:
        """A linear layer that reads a flattened image is a convolution as large as the image."""
        full = call.spec.in_channels
        positions = math.prod(call.spec.kernel) if isinstance(self._layers.get(call.layer), nn.Linear) else 1
        return self._left(call.layer, 1, candidate, full * positions) // positions

    def _left(self, layer: str, axis: int, candidate: Candidate, full: int) -> int:
        if (layer, axis) not in self._ends:
            return full
        index, each = self._ends[layer, axis]
        site = self._space.sites[index]
        assert isinstance(site, WidthSite)
        return each * width_left(site, candidate.choices[index].sparsity)


def _pruned(spec: KernelSpec, sparsity: Sparsity, shape: tuple[int, ...]) -> KernelSpec:
    """The kernel with its weight, of `shape` where it is pruned, under a sparsity."""
    return replace(spec, sparsity=reached_structure(shape, sparsity, spec.weight_shape))
