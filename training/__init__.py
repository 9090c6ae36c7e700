"""Datasets, training and evaluation loops, distillation, checkpoints."""

from training.augmentation import AUGMENTATIONS, Augmentation
from training.batching import batches
from training.data import Dataset, Normalisation, Split
from training.datasets import dataset_names, load_dataset
from training.evaluation import Metrics, evaluate
from training.recalibration import recalibrate_batch_norm

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Dataset",
    "Metrics",
    "Normalisation",
    "Split",
    "batches",
    "dataset_names",
    "evaluate",
    "load_dataset",
    "recalibrate_batch_norm",
]
