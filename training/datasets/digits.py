"""Handwritten digits of the UCI repository, shipped with scikit-learn: small, real, and needs no network."""

from pathlib import Path

import torch
import torch.nn.functional as F

from training.data import Normalisation
from training.datasets.source import Pictures, Source, stratified


class Digits(Source):
    """1797 grey pictures of 8x8, enlarged to 32x32; 360 of them are the test split, whatever the seed."""

    name = "digits"
    classes = 10
    normalisation = Normalisation(mean=(0.305,), std=(0.323,))
    validation = 0.25

    def read(self, root: Path) -> tuple[Pictures, Pictures]:
        from sklearn.datasets import load_digits  # takes a second, and only this dataset needs it

        bunch = load_digits()
        small = torch.from_numpy(bunch.images).float().unsqueeze(1) * (255 / 16)
        pixels = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
        labels = torch.from_numpy(bunch.target).long()
        known, test = stratified(labels, share=0.2, seed=0)
        return Pictures(pixels[known], labels[known]), Pictures(pixels[test], labels[test])
