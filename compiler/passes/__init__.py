"""Rewrites of the graph, each a pure function, in the order in which they run."""

from compiler.passes.batch_norm import fold_batch_norm
from compiler.passes.dead_code import drop_dead_code
from compiler.passes.epilogue import fuse_epilogues
from compiler.passes.flatten import flatten_to_conv
from compiler.passes.gather import merge_gathers
from compiler.passes.groups import ungroup

PASSES = (drop_dead_code, merge_gathers, flatten_to_conv, drop_dead_code, fold_batch_norm, ungroup, fuse_epilogues)

__all__ = [
    "PASSES",
    "drop_dead_code",
    "flatten_to_conv",
    "fold_batch_norm",
    "fuse_epilogues",
    "merge_gathers",
    "ungroup",
]
