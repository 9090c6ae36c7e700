"""Operators, search space and the weight-sharing network in which candidates are judged before they are trained."""

from supernet.candidate import Candidate, Choice
from supernet.choice_space import ChoiceSpace
from supernet.configuration import make_space
from supernet.distortion import Distortions, distortions
from supernet.errors import SupernetCollapsed, SupernetError
from supernet.evaluation import EvaluationRecipe, fast_evaluate
from supernet.extraction import extract
from supernet.hardening import harden
from supernet.layer import Layer
from supernet.model_space import ModelSpace
from supernet.network import Network
from supernet.operators import make_operator, operator_names
from supernet.own_model import OwnModel
from supernet.own_recipe import OwnRecipe
from supernet.recipe import SupernetRecipe
from supernet.reconstruction import pretrain_replacements
from supernet.sandwich import train_supernet
from supernet.site import Site
from supernet.space import SearchSpace
from supernet.supernet import SuperNet

__all__ = [
    "Candidate",
    "Choice",
    "ChoiceSpace",
    "Distortions",
    "EvaluationRecipe",
    "Layer",
    "ModelSpace",
    "Network",
    "OwnModel",
    "OwnRecipe",
    "SearchSpace",
    "Site",
    "SuperNet",
    "SupernetCollapsed",
    "SupernetError",
    "SupernetRecipe",
    "distortions",
    "extract",
    "fast_evaluate",
    "harden",
    "make_operator",
    "make_space",
    "operator_names",
    "pretrain_replacements",
    "train_supernet",
]
