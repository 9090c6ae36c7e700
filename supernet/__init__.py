"""Operators, search space and the weight-sharing network in which candidates are judged before they are trained."""

from supernet.candidate import Candidate, Choice
from supernet.configuration import make_space
from supernet.errors import SupernetError
from supernet.layer import Layer
from supernet.operators import make_operator, operator_names
from supernet.site import Site
from supernet.space import SearchSpace

__all__ = [
    "Candidate",
    "Choice",
    "Layer",
    "SearchSpace",
    "Site",
    "SupernetError",
    "make_operator",
    "make_space",
    "operator_names",
]
