"""Operators, search space and the weight-sharing network in which candidates are judged before they are trained."""

from supernet.candidate import Candidate, Choice
from supernet.configuration import make_space
from supernet.errors import SupernetCollapsed, SupernetError
from supernet.evaluation import fast_evaluate
from supernet.extraction import extract
from supernet.layer import Layer
from supernet.network import Network
from supernet.operators import make_operator, operator_names
from supernet.recipe import SupernetRecipe
from supernet.sandwich import train_supernet
from supernet.site import Site
from supernet.space import SearchSpace
from supernet.supernet import SuperNet

__all__ = [
    "Candidate",
    "Choice",
    "Layer",
    "Network",
    "SearchSpace",
    "Site",
    "SuperNet",
    "SupernetCollapsed",
    "SupernetError",
    "SupernetRecipe",
    "extract",
    "fast_evaluate",
    "make_operator",
    "make_space",
    "operator_names",
    "train_supernet",
]
