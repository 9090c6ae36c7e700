"""Published CIFAR-10 weights of ResNet-20 to -110, from github.com/akamaster/pytorch_resnet_cifar10."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from benchmarks.errors import PretrainedUnusable
from benchmarks.zoo.cifar_resnet import CifarResNet, cifar_resnet


def load_pretrained(depth: int, path: Path) -> CifarResNet:
    """ResNet of `depth` layers with the weights of a safetensors file, in evaluation mode.

    Args:
        path: keys `conv1, bn1, layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}, linear`, as published.

    Raises:
        PretrainedUnusable: if the file is missing or damaged, or is of another network; names what does not fit.
    """
    model = cifar_resnet(depth)
    names = dict(published_names(model))
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise PretrainedUnusable(f"{path} cannot be read as safetensors: {error}") from error
    renamed = {}
    for key, tensor in model.state_dict().items():
        module, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        there = f"{names[module]}.{leaf}"
        if there not in found or found[there].shape != tensor.shape:
            has = "lacks it" if there not in found else f"has {list(found[there].shape)}"
            raise PretrainedUnusable(f"ResNet-{depth} needs {there} of shape {list(tensor.shape)}, {path} {has}")
        renamed[key] = found[there]
    model.load_state_dict(renamed, strict=False)
    return model.eval()


def published_names(model: CifarResNet) -> list[tuple[str, str]]:
    """Names of the layers in the zoo's network and in the published files."""
    pairs = [("stem.0", "conv1"), ("stem.1", "bn1"), ("classifier", "linear")]
    each = len(model.blocks) // 3
    for index in range(len(model.blocks)):
        there = f"layer{index // each + 1}.{index % each}"
        for part, number in (("first", 1), ("second", 2)):
            pairs += [
                (f"blocks.{index}.{part}.0", f"{there}.conv{number}"),
                (f"blocks.{index}.{part}.1", f"{there}.bn{number}"),
            ]
    return pairs


def stages(model: CifarResNet) -> list[list[str]]:
    """Names of the 3x3 convolutions behind the stem, by stage: 16, 32 and 64 filters."""
    convolutions = [(name, module) for name, module in model.blocks.named_modules() if isinstance(module, nn.Conv2d)]
    return [[f"blocks.{name}" for name, conv in convolutions if conv.out_channels == width] for width in (16, 32, 64)]
