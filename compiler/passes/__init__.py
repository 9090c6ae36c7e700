"""Rewrites of the graph, each a pure function, in the order in which they run."""

from compiler.passes.batch_norm import fold_batch_norm
from compiler.passes.dead_code import drop_dead_code
from compiler.passes.epilogue import fuse_epilogues
from compiler.passes.flatten import flatten_to_conv
from compiler.passes.resample import merge_resamples

PASSES = (drop_dead_code, fold_batch_norm, flatten_to_conv, merge_resamples, fuse_epilogues)

__all__ = ["PASSES", "drop_dead_code", "flatten_to_conv", "fold_batch_norm", "fuse_epilogues", "merge_resamples"]
