"""Operators that only move data: where each element comes from is seen by running them on positions."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode
from torch.fx.node import map_arg

from compiler.arrangement import arrange, positions
from compiler.graph import Activation, Add
from compiler.translation import Capture, Result, argument, handles

IN_PLACE = (
    "aten.alias.default",
    "aten.clone.default",
    "aten.contiguous.default",
    "aten.detach.default",
    "aten.dropout.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
    "aten.lift_fresh_copy.default",
    "aten.detach_.default",
)
"""Operators whose result is their first argument, in evaluation mode."""

MOVING = (
    "aten.cat.default",
    "aten.channel_shuffle.default",
    "aten.chunk.default",
    "aten.concat.default",
    "aten.copy.default",
    "aten.diagonal.default",
    "aten.expand.default",
    "aten.expand_as.default",
    "aten.flatten.using_ints",
    "aten.flip.default",
    "aten.gather.default",
    "aten.im2col.default",
    "aten.index.Tensor",
    "aten.index_select.default",
    "aten.movedim.int",
    "aten.movedim.intlist",
    "aten.narrow.default",
    "aten.native_channel_shuffle.default",
    "aten.numpy_T.default",
    "aten.permute.default",
    "aten.pixel_shuffle.default",
    "aten.pixel_unshuffle.default",
    "aten.reflection_pad1d.default",
    "aten.reflection_pad2d.default",
    "aten.repeat.default",
    "aten.repeat_interleave.self_int",
    "aten.replication_pad1d.default",
    "aten.replication_pad2d.default",
    "aten.reshape.default",
    "aten.roll.default",
    "aten.select.int",
    "aten.select_copy.int",
    "aten.select_scatter.default",
    "aten.slice.Tensor",
    "aten.slice_scatter.default",
    "aten.split.Tensor",
    "aten.split_with_sizes.default",
    "aten.squeeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.stack.default",
    "aten.swapaxes.default",
    "aten.t.default",
    "aten.tile.default",
    "aten.transpose.int",
    "aten.unbind.int",
    "aten.unflatten.int",
    "aten.unfold.default",
    "aten.unsqueeze.default",
    "aten.unsafe_chunk.default",
    "aten.unsafe_split.Tensor",
    "aten._unsafe_view.default",
    "aten.upsample_nearest1d.default",
    "aten.upsample_nearest1d.vec",
    "aten.upsample_nearest2d.default",
    "aten.upsample_nearest2d.vec",
    "aten._upsample_nearest_exact1d.vec",
    "aten._upsample_nearest_exact2d.default",
    "aten._upsample_nearest_exact2d.vec",
    "aten.view.default",
)

SPATIAL = ("pad", "pixel", "shuffle", "upsample", "im2col")
"""Words in the names of operators that work on each image alone."""

WHOLE = (torch.int64, torch.int32)
"""Types of whole numbers, which are held as floats."""

CHOOSING = frozenset({"index", "indices", "condition"})
"""Arguments that say which elements are taken; all others are elements."""


@handles(*IN_PLACE)
def _same(capture: Capture, node: FxNode) -> Result:
    if "dropout" in str(node.target) and argument(node, 2):
        raise capture.refusal(node, "it drops elements at random; put it in evaluation mode")
    return capture.tensor(node, 0)


@handles("aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten._to_copy.default", "aten.type_as.default")
def _cast(capture: Capture, node: FxNode) -> Result:
    before, after = argument(node, 0).meta["val"].dtype, node.meta["val"].dtype
    if after == torch.bool and before != torch.bool:
        return capture.add(node, Activation("differs(0.0)"), capture.tensor(node, 0))
    if after not in (torch.float32, before, *WHOLE):
        raise capture.refusal(node, f"tensors of {after} are not supported, only float32")
    if after in WHOLE and before.is_floating_point:
        return capture.add(node, Activation("trunc"), capture.tensor(node, 0))
    return capture.tensor(node, 0)


@handles(*MOVING)
def _move(capture: Capture, node: FxNode) -> Result:
    if not _leaves_batch(node):
        capture.mixing.append(node)
    return moved(capture, node)


@handles("aten.constant_pad_nd.default", "aten.pad.default")
def _pad(capture: Capture, node: FxNode) -> Result:
    named = str(node.target).startswith("aten.pad")
    if named and argument(node, 2, "constant") != "constant":
        return moved(capture, node)
    value = float(argument(node, 3 if named else 2, 0.0) or 0.0)
    widths = [int(width) for width in argument(node, 1)]
    found = torch.constant_pad_nd(positions(argument(node, 0).meta["val"].shape), widths, -1)
    return capture.move(node, [capture.tensor(node, 0)], arrange(found), value)


@handles("aten.col2im.default")
def _fold(capture: Capture, node: FxNode) -> Result:
    """A sum of tensors, each of which takes the patches' pixels from places of the window that do not overlap."""
    shape, window = tuple(argument(node, 0).meta["val"].shape), math.prod(argument(node, 2))
    found = positions(shape).reshape(shape[0], -1, window, shape[2]).double() + 1
    layers: list[Tensor] = []
    for place in range(window):
        alone = torch.zeros_like(found)
        alone[:, :, place] = found[:, :, place]
        folded: Tensor = node.target(alone.reshape(shape), *node.args[1:], **node.kwargs)  # type: ignore[operator]
        free = next((i for i, layer in enumerate(layers) if not bool((layer * folded).any())), None)
        if free is None:
            layers.append(folded)
        else:
            layers[free] = layers[free] + folded
    first, *others = (capture.move(node, [capture.tensor(node, 0)], arrange(layer) - 1) for layer in layers)
    return reduce(lambda total, name: capture.add(node, Add(), total, name), others, first)


@handles("<built-in function getitem>")
def _getitem(capture: Capture, node: FxNode) -> Result:
    source, index = node.args
    results = capture.tensors[source] if isinstance(source, FxNode) else ()
    if isinstance(results, str):
        results = (results,)
    assert isinstance(index, int)
    return results[index] if results and index < len(results) else None


def _leaves_batch(node: FxNode) -> bool:
    """Whether an operator, by its form, does not touch the first axis."""
    name = str(node.target)
    if any(word in name for word in SPATIAL):
        return True
    first = argument(node, 0)
    axes = len((first[0] if isinstance(first, (list, tuple)) else first).meta["val"].shape)
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    named = {declared.name: argument(node, index) for index, declared in enumerate(schema)}
    if "dims" in named:
        return isinstance(named["dims"], (list, tuple)) and named["dims"][0] == 0 and "permute" in name
    touched = [named[key] for key in ("dim", "dim0", "dim1", "start_dim") if key in named]
    return bool(touched) and all(
        isinstance(dim, int) and dim % (axes + 1 if "unsqueeze" in name else axes) for dim in touched
    )


def moved(capture: Capture, node: FxNode) -> Result:
    """The result of an operator that moves elements of its arguments, by running it on their positions.

    Positions count from 1, so that zeros that the operator adds are told apart.
    """
    sources: list[str] = []
    start = 1

    def located(value: FxNode) -> Any:
        nonlocal start
        if value in capture.known and not isinstance(capture.known[value], Tensor):
            return capture.known[value]
        sources.append(capture.name_of(node, value))
        found = positions(value.meta["val"].shape, start).double().contiguous()  # for views
        start += found.numel()
        return found

    def choosing(value: FxNode) -> Any:
        if value not in capture.known:
            raise capture.refusal(node, "which elements it takes is computed from the input")
        return capture.known[value]

    schema = node.target._schema.arguments  # type: ignore[union-attr]
    named = [*zip((declared.name for declared in schema), node.args, strict=False), *node.kwargs.items()]
    found_at = [map_arg(value, choosing if name in CHOOSING else located) for name, value in named]
    arguments = found_at[: len(node.args)]
    keywords = dict(zip(node.kwargs, found_at[len(node.args) :], strict=True))
    try:
        found = node.target(*arguments, **keywords)  # type: ignore[operator]
    except (RuntimeError, NotImplementedError, IndexError) as error:
        raise capture.refusal(node, str(error).splitlines()[0]) from error
    if isinstance(found, Tensor):
        return capture.move(node, sources, arrange(found) - 1)
    return tuple(capture.move(node, sources, arrange(part) - 1) for part in found)
