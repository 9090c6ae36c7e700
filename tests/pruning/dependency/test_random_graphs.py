"""Random graphs of convolutions: exact, or refused by name."""

import copy
import random
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning import Sparsity, prune, shrink
from pruning.errors import NothingToPrune, ShrinkRefused


class Graph(nn.Module):
    """Values of one batch flow through `steps`; every step names its arguments, the layers are in `layers`."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random, self.layers, self.steps = random.Random(seed), nn.ModuleList(), []
        self.widths = {0: 3}
        self.scales = {0: 0}
        self.add("conv", 0, self.random.randint(2, 9))
        for _ in range(self.random.randint(6, 12)):
            getattr(self, f"add_{self.random.choice(self.KINDS)}")(self.random.choice(list(self.widths)[1:]))
        self.ends = [value for value in self.widths if all(value not in used for _, used, *_ in self.steps)]
        self.head = nn.Linear(sum(self.widths[end] for end in self.ends), 5)

    KINDS = (
        *("conv", "conv", "strided", "norm", "depthwise", "grouped", "add", "add", "cat", "chunk", "split", "slice"),
        *("shuffle", "gate", "scale", "mean_gate", "transposed", "pad", "act"),
    )

    def add(self, kind: str, source: int | tuple[int, ...], width: int, layer: nn.Module | None = None, scale=None):
        sources = source if isinstance(source, tuple) else (source,)
        if kind == "conv" and layer is None:
            layer = nn.Conv2d(self.widths[sources[0]], width, 3, padding=1, bias=self.random.random() < 0.5)
        number = len(self.widths)
        self.widths[number] = width
        self.scales[number] = self.scales[sources[0]] if scale is None else scale
        self.layers.append(nn.Identity() if layer is None else layer)
        self.steps.append((kind, sources, number))
        return number

    def alike(self, x: int) -> int:
        """Another value of the same shape: an old one, or a new convolution's."""
        same = [v for v in self.widths if v and v != x and (self.widths[v], self.scales[v]) == self.kind(x)]
        if same and self.random.random() < 0.7:
            return self.random.choice(same)
        return self.add("conv", x, self.widths[x])

    def kind(self, x: int) -> tuple[int, int]:
        return self.widths[x], self.scales[x]

    def add_conv(self, x: int) -> None:
        self.add("conv", x, self.random.randint(2, 9))

    def add_strided(self, x: int) -> None:
        width = self.random.randint(2, 9)
        self.add("conv", x, width, nn.Conv2d(self.widths[x], width, 3, 2, 1), self.scales[x] + 1)

    def add_norm(self, x: int) -> None:
        kinds = [nn.BatchNorm2d, lambda w: nn.InstanceNorm2d(w, affine=True), lambda w: nn.GroupNorm(w // 2 or 1, w)]
        width = self.widths[x]
        self.add("norm", x, width, kinds[self.random.randint(0, 2 if width % 2 == 0 else 1)](width))

    def add_depthwise(self, x: int) -> None:
        width, times = self.widths[x], self.random.choice((1, 1, 2))
        self.add("conv", x, width * times, nn.Conv2d(width, width * times, 3, padding=1, groups=width))

    def add_grouped(self, x: int) -> None:
        if self.widths[x] % 2 == 0:
            self.add("conv", x, 6, nn.Conv2d(self.widths[x], 6, 1, groups=2))

    def add_add(self, x: int) -> None:
        self.add("add", (x, self.alike(x)), self.widths[x])

    def add_cat(self, x: int) -> None:
        others = [v for v in self.widths if v and self.scales[v] == self.scales[x]]
        other = self.random.choice(others)
        self.add("cat", (x, other), self.widths[x] + self.widths[other])

    def add_chunk(self, x: int) -> None:
        if self.widths[x] > 1:
            self.add("chunk", x, self.widths[x] // 2 + self.widths[x] % 2)

    def add_split(self, x: int) -> None:
        if self.widths[x] % 3 == 0:
            self.add("split", x, self.widths[x] // 3)

    def add_slice(self, x: int) -> None:
        if self.widths[x] > 2:
            self.add("slice", x, self.widths[x] - 2)

    def add_shuffle(self, x: int) -> None:
        if self.widths[x] % 2 == 0:
            self.add("shuffle", x, self.widths[x])

    def add_gate(self, x: int) -> None:
        self.add("gate", (x, self.alike(x)), self.widths[x])

    def add_scale(self, x: int) -> None:
        self.add("scale", x, self.widths[x], nn.ParameterList([nn.Parameter(torch.randn(self.widths[x], 1, 1))]))

    def add_mean_gate(self, x: int) -> None:
        self.add("mean_gate", x, self.widths[x])

    def add_transposed(self, x: int) -> None:
        width = self.random.randint(2, 9)
        self.add("conv", x, width, nn.ConvTranspose2d(self.widths[x], width, 3, padding=1))

    def add_pad(self, x: int) -> None:
        self.add("pad", x, self.widths[x] + 1)

    def add_act(self, x: int) -> None:
        kind = self.random.choice((nn.ReLU, nn.Sigmoid, nn.GELU, lambda: nn.MaxPool2d(3, 1, 1)))
        self.add("act", x, self.widths[x], kind())

    def forward(self, x: Tensor) -> Tensor:
        values = {0: x}
        for layer, (kind, sources, number) in zip(self.layers, self.steps, strict=True):
            first = values[sources[0]]
            values[number] = self.step(kind, layer, first, values[sources[-1]])
        return self.head(torch.cat([values[end].mean((2, 3)) for end in self.ends], 1))

    def step(self, kind: str, layer: nn.Module, x: Tensor, other: Tensor) -> Tensor:
        batch, width, height, _ = x.shape
        if kind == "add":
            return x + other
        if kind == "cat":
            return torch.cat([x, other], 1)
        if kind == "chunk":
            return x.chunk(2, 1)[0]
        if kind == "split":
            return x.split(width // 3, 1)[1]
        if kind == "slice":
            return x[:, 2:]
        if kind == "shuffle":
            return x.view(batch, 2, width // 2, height, -1).transpose(1, 2).reshape(x.shape)
        if kind == "gate":
            return x * torch.sigmoid(other)
        if kind == "scale":
            return x * layer[0]
        if kind == "mean_gate":
            return x * x.mean(1, keepdim=True)
        if kind == "pad":
            return F.pad(x, (0, 0, 0, 0, 0, 1))
        return layer(x)


def silence(model: Graph, generator: random.Random) -> None:
    """Zeroes random filters with all that would let them speak, and random channels."""
    with torch.no_grad():
        for layer in model.layers:
            if isinstance(layer, (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)):
                gone = [i for i in range(len(layer.weight)) if generator.random() < 0.4]
                layer.weight[gone] = layer.bias[gone] = 0
            elif isinstance(layer, nn.Conv2d) and generator.random() < 0.7:
                gone = [i for i in range(layer.out_channels) if generator.random() < 0.4]
                layer.weight[gone] = 0
                if layer.bias is not None:
                    layer.bias[gone] = 0
                if layer.groups == 1 and generator.random() < 0.5:
                    layer.weight[:, [i for i in range(layer.in_channels) if generator.random() < 0.4]] = 0


def same(model: nn.Module, masked: nn.Module) -> None:
    for batch in (2, 3):
        images = torch.randn(batch, 3, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(model(images), masked(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(60))
def test_exact_or_refused_by_name(seed: int) -> None:
    torch.manual_seed(seed)
    model, images = Graph(seed).eval(), torch.randn(2, 3, 8, 8)
    silence(model, random.Random(seed))
    masked, before = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    refusal, report = "", None
    try:
        report = shrink(model, images)
    except ShrinkRefused as error:
        refusal = str(error)
    if report is None:
        assert re.search(r"node '\w+', module '.+'", refusal)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert str(model) == str(masked)
    else:
        assert report.parameters_after == sum(parameter.numel() for parameter in model.parameters())
    same(model, masked)


@pytest.mark.parametrize("seed", range(60, 68))
@pytest.mark.parametrize("scheme", ["filter", "channel"])
def test_what_prune_accepts_can_be_removed(seed: int, scheme: str) -> None:
    torch.manual_seed(seed)
    model, images = Graph(seed).eval(), torch.randn(2, 3, 8, 8)
    before = copy.deepcopy(model.state_dict())
    try:
        pruned = prune(model, images, Sparsity(scheme, 2))
    except NothingToPrune:
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        return
    masked = copy.deepcopy(model)
    report = shrink(model, images)
    widths = {layer.name: (layer.in_channels[1], layer.out_channels[1]) for layer in report.layers}
    for layer in pruned.layers:
        mask = pruned.masks[layer.name]
        kept = mask.flatten(1).any(1) if scheme == "filter" else mask.flatten(2).any(2).any(0)
        if not kept.all():
            assert widths[layer.name][scheme == "filter"] <= int(kept.sum())
    same(model, masked)
