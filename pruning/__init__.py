"""Sparsity structures, the algorithms that reach them, and the removal of what they empty."""

from pruning.algorithm import Algorithm, algorithm_names, make_algorithm
from pruning.dependency.groups import CoupledGroup, Member, coupled_groups
from pruning.errors import PruningError
from pruning.one_call import PrunedLayer, PruneReport, prune
from pruning.scheme import Scheme, kept, make_scheme, scheme_names
from pruning.shrinking import ShrinkReport, ShrunkLayer, shrink
from pruning.sparsity import Sparsity, project

__all__ = [
    "Algorithm",
    "CoupledGroup",
    "Member",
    "PruneReport",
    "PrunedLayer",
    "PruningError",
    "Scheme",
    "ShrinkReport",
    "ShrunkLayer",
    "Sparsity",
    "algorithm_names",
    "coupled_groups",
    "kept",
    "make_algorithm",
    "make_scheme",
    "project",
    "prune",
    "scheme_names",
    "shrink",
]
