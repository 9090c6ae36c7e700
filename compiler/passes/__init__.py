"""Rewrites of the graph, each a pure function, in the order in which they run."""

from collections.abc import Callable

from compiler.graph import Graph
from compiler.passes.batch_norm import fold_batch_norm
from compiler.passes.concat import chain_concats
from compiler.passes.dead_channels import drop_dead_channels
from compiler.passes.dead_code import drop_dead_code
from compiler.passes.epilogue import fuse_epilogues
from compiler.passes.flatten import flatten_to_conv
from compiler.passes.gather import merge_gathers
from compiler.passes.groups import ungroup

Pass = Callable[[Graph], Graph]
WIDTH_KEEPING: tuple[Pass, ...] = (
    drop_dead_code,
    merge_gathers,
    chain_concats,
    flatten_to_conv,
    drop_dead_code,
    fold_batch_norm,
    ungroup,
    fuse_epilogues,
)
"""Those that leave every tensor its channels, whatever the weights are."""
PASSES: tuple[Pass, ...] = (*WIDTH_KEEPING, drop_dead_channels)
"""All of them."""

__all__ = [
    "PASSES",
    "WIDTH_KEEPING",
    "Pass",
    "chain_concats",
    "drop_dead_channels",
    "drop_dead_code",
    "flatten_to_conv",
    "fold_batch_norm",
    "fuse_epilogues",
    "merge_gathers",
    "ungroup",
]
