import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pruning import Sparsity
from supernet import Layer, Network, SearchSpace
from supernet.errors import InvalidLayers
from training import save_checkpoint


def test_structure_and_weights_read_back_in_a_clean_process(small: SearchSpace, tmp_path: Path) -> None:
    network = Network(small.layers(small.sample(np.random.default_rng(0)))).eval()
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    network.save(tmp_path / "model.safetensors")
    torch.save(images, tmp_path / "images.pt")
    program = (
        "import sys, json, torch; from supernet.network import Network; folder = sys.argv[1];"
        "network = Network.load(folder + '/model.safetensors').eval();"
        "print(json.dumps(network(torch.load(folder + '/images.pt', weights_only=True)).tolist()))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    torch.testing.assert_close(torch.tensor(json.loads(run.stdout)), network(images), atol=1e-6, rtol=1e-6)


def test_description_reads_back_through_json(small: SearchSpace) -> None:
    network = Network(small.layers(small.sample(np.random.default_rng(1))))
    again = Network.from_dict(json.loads(json.dumps(network.to_dict())))
    assert again.layers == network.layers
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}


def test_plan_names_modules_that_are_masked(tiny: SearchSpace) -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        network = Network(tiny.layers(tiny.sample(rng)))
        for name, sparsity in network.plan.items():
            assert isinstance(network.get_submodule(name), torch.nn.Conv2d)
            assert not sparsity.dense


def test_layers_that_do_not_connect_are_refused(small: SearchSpace) -> None:
    layers = small.layers(small.largest())
    with pytest.raises(InvalidLayers, match="stem"):
        Network(layers[1:])
    with pytest.raises(InvalidLayers, match=r"sites.0.conv1 takes"):
        Network([replace(layers[0], out_channels=5), *layers[1:]])


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(InvalidLayers, match="no network"):
        Network.load(tmp_path / "other.safetensors")
    with pytest.raises(InvalidLayers, match="format"):
        Network.from_dict({})


def test_macs_count_what_is_left() -> None:
    layer = Layer("stem.conv1", "conv", 8, 16, 10, 3, 2, "relu", False, Sparsity(), None)
    assert layer.output_size == 5
    assert layer.macs == 16 * 8 * 9 * 25
    half = replace(layer, sparsity=Sparsity("block_punched(16x1)", 2))
    assert half.macs == layer.macs / 2
    assert replace(layer, kind="depthwise", in_channels=16).macs == 16 * 9 * 25
    with pytest.raises(InvalidLayers, match="kind"):
        Layer.from_dict(layer.to_dict() | {"kind": "dense"})
    with pytest.raises(InvalidLayers, match="fields"):
        Layer.from_dict({"sparsity": "dense"})


def test_folding_changes_nothing_but_rounding(small: SearchSpace) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 1, 32, 32, generator=generator)
    for seed in range(4):
        network = Network(small.layers(small.sample(np.random.default_rng(seed))))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                    assert tensor is not None
                    tensor.uniform_(0.5, 1.5, generator=generator)
        with torch.no_grad():
            before = network.eval()(images)
            network.fold()
            torch.testing.assert_close(network(images), before, atol=1e-5, rtol=1e-4)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
