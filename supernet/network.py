"""The plain network of a candidate: built from a list of layers, without a trace of the supernet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pruning import Sparsity
from supernet.activations import ACTIVATIONS
from supernet.errors import InvalidLayers
from supernet.layer import Layer
from training import load_checkpoint, save_checkpoint

FORMAT = "npas network 1"


class Block(nn.Module):
    """Convolutions with batch norm and activation in a row: act(BN(conv)), the input added before the last activation.

    Modules are called conv1, bn1, act1, conv2, ...
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.depth = len(layers)
        self.residual = layers[-1].residual
        for i, layer in enumerate(layers, start=1):
            conv = nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel,
                stride=layer.stride,
                padding=layer.kernel // 2,
                groups=layer.in_channels if layer.kind == "depthwise" else 1,
                bias=False,
            )
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(layer.out_channels))
            self.add_module(f"act{i}", ACTIVATIONS[layer.activation]())

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W']."""
        y = x
        for i in range(1, self.depth + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            if self.residual and i == self.depth:
                y = y + x
            y = self.get_submodule(f"act{i}")(y)
        return y

    def fold(self) -> None:
        """See `Network.fold`."""
        for i in range(1, self.depth + 1):
            conv, bn = self.get_submodule(f"conv{i}"), self.get_submodule(f"bn{i}")
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(bn, nn.BatchNorm2d)
            setattr(self, f"conv{i}", fuse_conv_bn_eval(conv.eval(), bn.eval()))
            setattr(self, f"bn{i}", nn.Identity())


class Network(nn.Module):
    """Stem, sites and head, global average pool, linear classifier: images [N, C, H, W] -> logits [N, classes].

    The modules of the convolutions and of the classifier have the names of their layers. Sites that were skipped
    are not there.

    Raises:
        InvalidLayers: the layers do not connect, or are not those of stem, sites, head, pool and classifier.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        _check(self.layers)
        *convs, _, linear = self.layers
        blocks = {path: Block(list(group)) for path, group in groupby(convs, key=lambda layer: layer.block)}
        self.stem = blocks.pop("stem")
        head = blocks.pop("head")
        self.sites = nn.ModuleDict({path.removeprefix("sites."): block for path, block in blocks.items()})
        self.head = head
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(linear.in_channels, linear.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for site in self.sites.values():
            x = site(x)
        return self.classifier(torch.flatten(self.pool(self.head(x)), 1))  # type: ignore[no-any-return]

    def fold(self) -> None:
        """Merge each batch norm, with the statistics that it has now, into the convolution before it.

        What the network computes in evaluation mode stays the same, and takes a pass over each tensor less. It cannot
        be trained or saved any more.
        """
        for block in self.modules():
            if isinstance(block, Block):
                block.fold()

    @property
    def plan(self) -> dict[str, Sparsity]:
        """The sparsity of each masked layer, by module name, as `pruning.prune` takes it."""
        return masked_layers(self.layers)

    def to_dict(self) -> dict[str, Any]:
        """The structure, without weights, as plain values for JSON."""
        return {"format": FORMAT, "layers": [layer.to_dict() for layer in self.layers]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Network:
        """A network of that structure with fresh weights.

        Raises:
            InvalidLayers: the values were not written by `to_dict`.
        """
        if values.get("format") != FORMAT:
            raise InvalidLayers(f"the format is {values.get('format')!r}, not {FORMAT!r}")
        return cls(Layer.from_dict(layer) for layer in values["layers"])

    @classmethod
    def with_state(cls, layers: Iterable[Layer], state: Mapping[str, Tensor]) -> Network:
        """A network that takes over the tensors of a state; torch's global random state is left as it was.

        Raises:
            InvalidLayers: the state does not fit the layers.
        """
        with torch.random.fork_rng(devices=[]):
            network = cls(layers)
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise InvalidLayers(f"the weights do not fit the layers: {error}") from error
        return network

    def save(self, path: Path | str) -> None:
        """Writes structure and weights to one safetensors file, in one step."""
        save_checkpoint(path, {"network": self.to_dict(), "state": self.state_dict()})

    @classmethod
    def load(cls, path: Path | str) -> Network:
        """The network of a file that `save` wrote, on the CPU.

        Raises:
            CheckpointNotFound, CheckpointCorrupt: there is no such file, or it is damaged.
            InvalidLayers: the file is a checkpoint of something else.
        """
        content = load_checkpoint(path)
        structure = content.get("network", {})
        if structure.get("format") != FORMAT:
            raise InvalidLayers(f"{path} holds no network of format {FORMAT!r}")
        return cls.with_state(map(Layer.from_dict, structure["layers"]), content["state"])


def masked_layers(layers: Iterable[Layer]) -> dict[str, Sparsity]:
    """The sparsity of each masked layer; one that became so small that all its groups stay is not masked."""
    return {layer.name: layer.sparsity for layer in layers if _masked(layer)}


def _masked(layer: Layer) -> bool:
    if layer.sparsity.dense:
        return False
    scheme, shape = layer.sparsity.scheme, layer.weight_shape
    return scheme.kept_groups(shape, layer.sparsity.rate) < scheme.group_count(shape)


def _check(layers: Sequence[Layer]) -> None:
    blocks = [path for path, _ in groupby(layers[:-2], key=lambda layer: layer.block)]
    kinds = [layer.kind for layer in layers]
    inner = all(path.startswith("sites.") for path in blocks[1:-1])
    if blocks[:1] != ["stem"] or blocks[-1:] != ["head"] or not inner or kinds[-2:] != ["global_pool", "linear"]:
        raise InvalidLayers(
            "a network is stem, sites.0, sites.1, ..., head, pool and classifier; "
            f"found {', '.join(layer.name for layer in layers)}"
        )
    for before, after in pairwise(layers):
        if (before.out_channels, before.output_size) != (after.in_channels, after.size):
            raise InvalidLayers(
                f"{before.name} gives {before.out_channels} channels of size {before.output_size}, "
                f"{after.name} takes {after.in_channels} of size {after.size}"
            )
