"""Shared by all tests: few threads that do not spin, quiet libraries."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import matplotlib as mpl
import optuna
import torch

# Workers of pytest-xdist share the cores.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
mpl.use("agg")
optuna.logging.set_verbosity(optuna.logging.WARNING)
