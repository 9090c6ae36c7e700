"""Datasets, training and evaluation loops, distillation, checkpoints."""

from training.augmentation import AUGMENTATIONS, Augmentation
from training.batching import batches
from training.checkpoint import load_checkpoint, save_checkpoint
from training.classifier import require_classifier
from training.data import Dataset, Normalisation, Split
from training.datasets import dataset_names, load_dataset
from training.distillation import distillation_loss
from training.evaluation import Metrics, evaluate
from training.hooks import Hooks
from training.loop import fit
from training.recalibration import recalibrate_as_trained, recalibrate_batch_norm
from training.recipe import Recipe

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Dataset",
    "Hooks",
    "Metrics",
    "Normalisation",
    "Recipe",
    "Split",
    "batches",
    "dataset_names",
    "distillation_loss",
    "evaluate",
    "fit",
    "load_checkpoint",
    "load_dataset",
    "recalibrate_as_trained",
    "recalibrate_batch_norm",
    "require_classifier",
    "save_checkpoint",
]
