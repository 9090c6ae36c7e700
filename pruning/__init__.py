"""Sparsity structures, the algorithms that reach them, and the removal of what they empty."""

from pruning.errors import PruningError
from pruning.scheme import Scheme, kept, make_scheme, scheme_names
from pruning.shrinking import ShrinkReport, shrink
from pruning.sparsity import Sparsity, project

__all__ = [
    "PruningError",
    "Scheme",
    "ShrinkReport",
    "Sparsity",
    "kept",
    "make_scheme",
    "project",
    "scheme_names",
    "shrink",
]
