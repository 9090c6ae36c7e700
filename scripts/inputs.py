"""What the configuration names: dataset, space, device, budget, recipe. Nothing here writes to the run directory."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from latency_model import Device, LatencyPredictor
from scripts.errors import InvalidSetting
from scripts.user_model import load_model, load_weights
from search import Bracket, Budget, Budgets, Entrant
from search.cluster import Cluster, make_cluster
from search.cluster.runner import device_on
from supernet import ModelSpace, OwnModel, OwnRecipe, SearchSpace, SuperNet, SupernetRecipe, make_space
from training import Dataset, Recipe, load_dataset
from training.errors import InvalidRecipe

R = TypeVar("R", Recipe, SupernetRecipe, OwnRecipe)


def dataset(config: DictConfig) -> Dataset:
    """The dataset; its splits are the same for every seed, so that runs can be compared."""
    return load_dataset(config.data.name, config.data.root, validation=config.data.validation)


def space(config: DictConfig, data: Dataset) -> SearchSpace | ModelSpace:
    """The search space for the pictures and classes of `data`."""
    return supernet(config, data).space if _own(config) else _staged(config, data)


def supernet(config: DictConfig, data: Dataset) -> SuperNet | OwnModel:
    """What candidates are cut from, before any training of it: fresh weights, or the user's."""
    if not _own(config):
        return SuperNet(_staged(config, data), seed=config.seed)
    model = load_model(config.model)
    if config.checkpoint is not None:
        load_weights(model, Path(config.checkpoint))
    return OwnModel(model, mapping(config.space), data.input_shape, data.classes)


def _own(config: DictConfig) -> bool:
    """Whether the space is that of a network of the user's own."""
    own = "stages" not in config.space
    if not own and config.model is not None:
        raise InvalidSetting("model", config.model, "null, except with space=own_model")
    return own


def _staged(config: DictConfig, data: Dataset) -> SearchSpace:
    return make_space(mapping(config.space), data.input_shape, data.classes)


def sources(config: DictConfig) -> list[LatencyPredictor]:
    """Predictors of other devices, from which that of this one starts."""
    if not OmegaConf.is_list(config.source):
        raise InvalidSetting("source", config.source, "a list of folders, such as [runs/other/predictor]")
    return [LatencyPredictor.load(folder) for folder in config.source]


def device(config: DictConfig) -> Device:
    """The device that latencies are measured on, wherever in the cluster it is."""
    if OmegaConf.select(config, "cluster.driver") in (None, "local"):
        return Device.from_config(mapping(config.device))
    return device_on(cluster(config), mapping(config.device))


def cluster(config: DictConfig) -> Cluster:
    """The machines that candidates are evaluated on and latencies are measured on."""
    return make_cluster(mapping(config.cluster), config.device.name)


def budget(config: DictConfig) -> Budget:
    """The latency budget, where there can be only one."""
    return Budget.parse(config.budget)


def budgets(config: DictConfig) -> Budgets:
    """The latency budgets."""
    return Budgets.parse(config.budget)


def finetune_recipe(config: DictConfig) -> Recipe:
    """How dense network and winners are trained after the search."""
    return _recipe(Recipe, config, "finetune")


def bracket(config: DictConfig) -> Bracket | None:
    """The tournament that chooses the pruning algorithm; None if the group `pruning` does."""
    told = mapping(config.tournament)
    if not told.pop("entrants"):
        return None
    told.pop("long")
    entrants = (Entrant(name, **short) for name, short in mapping(config.tournament.entrants).items())
    return Bracket(tuple(entrants), **told)


def supernet_recipe(config: DictConfig) -> SupernetRecipe:
    """How the supernet is trained."""
    return _recipe(SupernetRecipe, config, "supernet")


def own_recipe(config: DictConfig) -> OwnRecipe:
    """How a network of the user's own is prepared for the search."""
    return _recipe(OwnRecipe, config, "own_model")


def _recipe(kind: type[R], config: DictConfig, group: str) -> R:
    """Raises InvalidRecipe, which says of what group it is."""
    settings = mapping(config.training[group])
    known = [field.name for field in fields(kind)]
    if unknown := sorted(settings.keys() - set(known)):
        raise InvalidRecipe(f"training.{group} has no setting {', '.join(unknown)}. Allowed: {', '.join(known)}")
    try:
        return kind(**settings)
    except InvalidRecipe as error:
        raise InvalidRecipe(f"training.{group}.{error}") from None


def mapping(config: DictConfig) -> dict[str, Any]:
    """A group of the configuration as plain values."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
