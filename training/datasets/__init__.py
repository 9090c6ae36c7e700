"""Datasets by name."""

from training.datasets.registry import dataset_names, load_dataset

__all__ = ["dataset_names", "load_dataset"]
