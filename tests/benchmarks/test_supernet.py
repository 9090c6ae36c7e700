"""Networks inside a supernet and alone; one epoch on digits, so that nothing is said about how good they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from benchmarks.errors import NoSupernet
from benchmarks.supernet import clipped, compare, train_alone
from scripts import inputs
from scripts import supernet as supernet_stage
from supernet import EvaluationRecipe, SuperNet, fast_evaluate
from training.errors import CheckpointMismatch

SPACE = Path(__file__).parents[2] / "conf" / "space" / "tiny.yaml"
ONE_EPOCH = {"epochs": 1, "batch_size": 128, "warmup_epochs": 0.5, "dense_share": 0.0, "mild_share": 0.0}


@pytest.fixture(scope="module")
def config() -> DictConfig:
    """Two of the stages of `space=tiny`; the smallest network is narrowed in the one and masked in the other."""
    space = OmegaConf.load(SPACE)
    first, _, _, last = space.stages
    return OmegaConf.create(
        {
            "data": {"name": "digits", "root": "unused", "validation": 0.1},
            "space": {
                **space,
                "stages": [first, {**last, "sites": 2}],
                "schemes": ["filter(8)", "block_punched(16x1)"],
            },
            "training": {"supernet": {**ONE_EPOCH, "augment": "shift"}},
            "model": None,
            "seed": 3,
        }
    )


@contextmanager
def counted() -> Iterator[list[Optimizer]]:
    """An entry for every optimiser step that is taken within."""
    steps: list[Optimizer] = []
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: steps.append(optimizer))
    try:
        yield steps
    finally:
        handle.remove()


def test_alone_before_the_supernet_is_there_and_then_beside_it(config: DictConfig, tmp_path: Path) -> None:
    with counted() as alone, pytest.raises(NoSupernet, match="no supernet"):
        compare(config, tmp_path)
    with counted() as together:
        supernet_stage.run(config, tmp_path)
    shared = (tmp_path / "supernet.safetensors").read_bytes()
    with counted() as again:
        table = compare(config, tmp_path).set_index("candidate")
    assert len(again) == 0
    assert len(alone) == 2 * len(together)
    assert table["steps"].tolist() == [len(together)] * 2
    assert (tmp_path / "supernet.safetensors").read_bytes() == shared
    supernet, data = supernet_stage.load(config, tmp_path), inputs.dataset(config)
    assert isinstance(supernet, SuperNet)
    inside = fast_evaluate(supernet, supernet.space.largest(), data, EvaluationRecipe(8, augment="shift")).accuracy
    assert table.loc["largest", "validation_inside"] == inside
    for split in ("validation", "test"):
        behind = table[f"{split}_alone"] - table[f"{split}_inside"]
        assert table[f"{split}_behind"].tolist() == behind.tolist()
    assert table.loc["largest", "test_alone"] > 30


def test_alone_under_the_masks_of_weights_that_stay_as_they_are(config: DictConfig, tmp_path: Path) -> None:
    data, recipe = inputs.dataset(config), inputs.supernet_recipe(config)
    untrained = inputs.supernet(config, data)
    assert isinstance(untrained, SuperNet)
    before = {name: tensor.clone() for name, tensor in untrained.state_dict().items()}
    smallest = untrained.space.smallest()
    network, history = train_alone(untrained, smallest, data, recipe, seed=3, checkpoint=tmp_path / "smallest")
    assert len(history) == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in untrained.state_dict().items())
    assert list(untrained.plan(smallest)) == ["sites.1.conv1"]
    start, end = untrained.extract(smallest), network
    assert all(not torch.equal(end.state_dict()[name], weight) for name, weight in start.named_parameters())
    kept = start.get_parameter("sites.1.conv1.weight") != 0
    assert 0 < kept.sum() < kept.numel() / 5
    assert torch.equal(end.get_parameter("sites.1.conv1.weight") != 0, kept)
    with pytest.raises(CheckpointMismatch):
        train_alone(untrained, untrained.space.largest(), data, recipe, seed=3, checkpoint=tmp_path / "smallest")


def test_gradients_are_clipped_within_and_not_behind() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    weight.grad = torch.tensor([30.0, 40.0])
    with clipped(5.0):
        optimizer.step()
    assert weight.tolist() == pytest.approx([0.0, 0.0], abs=1e-4)
    weight.grad = torch.tensor([30.0, 40.0])
    optimizer.step()
    assert weight.tolist() == pytest.approx([-30.0, -40.0], abs=1e-4)
