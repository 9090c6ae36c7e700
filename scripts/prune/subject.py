"""The user's network, its data, and what the configuration asks for, as objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from latency_model import Device
from pruning.importance import EnergyImportance, Importance, MeasuredImportance, TaylorImportance
from scripts import inputs
from scripts.errors import InvalidSetting
from scripts.example_inputs import example_inputs
from scripts.user_model import load_dataset, load_model, load_weights
from search.variants import Menu, Variants
from training import Dataset, Recipe, Split, batches, evaluate, recalibrate_batch_norm

COMMAND = "prune"
DEFAULT = "taylor"
"""Importance where there are data."""
_PICTURES = 1024
_FEW, _MANY = 8, 128
_LEAST_BATCHES = 16
_NUMBERS = 250_000_000
"""What Taylor importance may keep in memory, 4 bytes each."""


@dataclass(frozen=True)
class Subject:
    """The network as it was given, in evaluation mode, an example of its inputs, and its data if there are any."""

    model: nn.Module
    examples: tuple[Tensor, ...]
    data: Dataset | None

    @classmethod
    def load(cls, config: DictConfig) -> Subject:
        """Raises what is wrong with `model`, `checkpoint`, `data`, `dataset` or `input`, by name."""
        model = load_model(config.model).eval()
        if config.checkpoint is not None:
            load_weights(model, Path(config.checkpoint))
        data = _data(config)
        described = OmegaConf.to_container(config.input) if OmegaConf.is_config(config.input) else config.input
        if data is None:
            return cls(model, example_inputs(described, COMMAND), None)
        return cls(model, (data.validation.images[:1],), data)


def recipe(config: DictConfig) -> Recipe | None:
    """How the pruned network is trained, None for not at all."""
    chosen = OmegaConf.select(config, "training.finetune")
    return None if chosen is None else Recipe(**inputs.mapping(chosen))


def menu(config: DictConfig) -> Menu:
    """What may be chosen in every layer."""
    return Menu(tuple(config.menu.schemes), tuple(config.menu.rates))


def importance(config: DictConfig, subject: Subject) -> Importance:
    """What ranks the choices: found on training pictures, augmented as they are trained on, or without any."""
    data = subject.data
    name = config.importance or ("energy" if data is None else DEFAULT)
    if name == "energy" or data is None:
        return EnergyImportance(subject.model)
    if name == "taylor":
        weights = sum(parameter.numel() for parameter in subject.model.parameters())
        count = max(_LEAST_BATCHES, min(_PICTURES // _FEW, _NUMBERS // weights))
        return TaylorImportance(subject.model, islice(_pictures(config, data, _FEW), count))
    images, labels = next(_pictures(config, data, _PICTURES))
    half = len(images) // 2
    known, judged = torch.split(images[:half], _MANY), Split(images[half:], labels[half:])

    def loss(model: nn.Module) -> float:
        recalibrate_batch_norm(model, known)
        return evaluate(model, judged).loss

    return MeasuredImportance(subject.model, loss)


def variants(config: DictConfig, subject: Subject, importance: Importance, device: Device) -> Variants:
    """The network's layers under everything on the menu."""
    return Variants(subject.model, subject.examples, menu(config), importance, device.target)


def _pictures(config: DictConfig, data: Dataset, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    trained = recipe(config)
    generator = torch.Generator().manual_seed(config.seed)
    return iter(
        batches(data.train, batch_size, generator=generator, augment=None if trained is None else trained.augment)
    )


def _data(config: DictConfig) -> Dataset | None:
    chosen: Any = OmegaConf.select(config, "data")
    if chosen is not None and config.dataset is not None:
        raise InvalidSetting("dataset", config.dataset, "one of data=... and dataset=..., not both", COMMAND)
    if config.dataset is not None:
        return load_dataset(config.dataset)
    return None if chosen is None else inputs.dataset(config)
