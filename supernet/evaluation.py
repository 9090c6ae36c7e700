"""How good a candidate is, as far as the shared weights tell."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from torch import Generator, Tensor

from supernet.candidate import Candidate
from supernet.extraction import extract
from supernet.supernet import SuperNet
from training import Dataset, Metrics, Split, batches, evaluate, recalibrate_batch_norm


def fast_evaluate(
    supernet: SuperNet,
    candidate: Candidate,
    dataset: Dataset,
    *,
    recalibration_batches: int = 16,
    batch_size: int = 64,
    seed: int = 0,
) -> Metrics:
    """Metrics on the validation split: extract, recalibrate batch norm, evaluate.

    The supernet and torch's global random state are left as they were; equal arguments give equal metrics.

    Args:
        recalibration_batches: how many batches of training pictures, without augmentation, measure the statistics.
        batch_size: of these batches.
        seed: decides which pictures they hold.

    Raises:
        InvalidCandidate: the candidate is not of the supernet's space.
    """
    network = extract(supernet, candidate)
    recalibrate_batch_norm(network, islice(_pictures(dataset.train, batch_size, seed), recalibration_batches))
    return evaluate(network, dataset.validation)


def _pictures(split: Split, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Shuffled batches without an end, pass after pass."""
    generator = Generator().manual_seed(seed)
    while True:
        for images, _ in batches(split, batch_size, generator=generator):
            yield images
