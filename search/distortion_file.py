"""Distortions of a run, found once and kept in its directory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from search.errors import DistortionsCorrupt
from supernet import ChoiceSpace, Distortions, OwnModel, SuperNet, distortions
from training import Dataset, batches
from training.modules import device_of

DISTORTIONS = "distortions.json"
PICTURES = 64
LEAST_PICTURES = 8
PIXELS = 64 * 64 * 64
"""Of all pictures of a batch, where that is not fewer than the least number of pictures."""


def distortions_of(
    supernet: SuperNet | OwnModel,
    dataset: Dataset,
    file: Path,
    *,
    seed: int = 0,
    on_site: Callable[[int], None] | None = None,
) -> Distortions:
    """What `file` has, or else what `supernet.distortions` tells of 64 training pictures (fewer where they are large).

    Raises:
        DistortionFailed: the outputs, or what choices do to them, are not finite.
        DistortionsCorrupt: the file is damaged, or belongs to another space.
    """
    if not file.exists():
        _, height, width = dataset.input_shape
        count = max(LEAST_PICTURES, min(PICTURES, PIXELS // (height * width)))
        pictures = batches(dataset.train, count, generator=torch.Generator().manual_seed(seed))
        images = next(iter(pictures))[0].to(device_of(supernet))
        found = distortions(supernet, images, seed=seed, on_site=on_site)
        written = file.with_name(file.name + ".part")
        written.write_text(json.dumps([values.tolist() for values in found]))
        os.replace(written, file)
    return read_distortions(file, supernet.space)


def read_distortions(file: Path, space: ChoiceSpace) -> Distortions:
    """What `distortions_of` wrote.

    Raises:
        DistortionsCorrupt: the file is damaged, or belongs to another space.
    """
    sizes = [len(space.choices(site)) for site in range(len(space.site_names))]
    try:
        found = tuple(np.array(values, dtype=np.float64) for values in json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise DistortionsCorrupt(f"{file} is damaged ({error}): delete it, and it is made again") from error
    if [values.shape for values in found] != [(size,) for size in sizes]:
        raise DistortionsCorrupt(f"{file} is of another search space: delete it, and it is made again")
    if not all(np.isfinite(values).all() and (values >= 0).all() for values in found):
        raise DistortionsCorrupt(f"{file} holds numbers that are no distortions: delete it, and it is made again")
    return found
