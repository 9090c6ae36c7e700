"""Whole networks in the style of the ones people prune: what is masked goes, and nothing else changes."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning import Sparsity, prune, shrink


def unit(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: type | None = nn.ReLU):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([] if act is None else [act()]))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(unit(inputs, width, 3, stride), unit(width, width, 3, act=None))
        self.down = unit(inputs, width, 1, stride, act=None) if stride > 1 or inputs != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y += self.down(x)
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(unit(inputs, width), unit(width, width, 3, stride), unit(width, width * 4, act=None))
        plain = stride == 1 and inputs == width * 4
        self.down = nn.Identity() if plain else unit(inputs, width * 4, 1, stride, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.down(x))


class ResNet(nn.Module):
    def __init__(self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...], width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(unit(3, width, 7, 2), nn.MaxPool2d(3, 2, 1))
        stages, inputs = [], width
        for stage, depth in enumerate(depths):
            for index in range(depth):
                stages.append(block(inputs, width << stage, 2 if stage and not index else 1))
                inputs = (width << stage) * block.expansion
        self.stages, self.fc = nn.Sequential(*stages), nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.stages(self.stem(x)), 1)
        return self.fc(torch.flatten(x, 1))


class SqueezeExcite(nn.Module):
    def __init__(self, width: int, squeezed: int, gate: type[nn.Module]) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)
        self.pool, self.gate = nn.AdaptiveAvgPool2d(1), gate()

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.fc2(F.relu(self.fc1(self.pool(x))))) * x


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, expand, kernel, stride, act, gate=None) -> None:
        super().__init__()
        width = inputs * expand
        self.body = nn.Sequential(
            *([] if expand == 1 else [unit(inputs, width, act=act)]),
            unit(width, width, kernel, stride, width, act),
            *([] if gate is None else [SqueezeExcite(width, max(2, width // 4), gate)]),
            unit(width, outputs, act=None),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


def mobile(rows, act: type[nn.Module], gate: type[nn.Module] | None, last: int) -> nn.Module:
    layers, inputs = [unit(3, 8, 3, 2, act=act)], 8
    for expand, outputs, depth, kernel, stride, squeeze in rows:
        for index in range(depth):
            layers.append(
                Inverted(inputs, outputs, expand, kernel, 1 if index else stride, act, gate if squeeze else None)
            )
            inputs = outputs
    layers += [unit(inputs, last, act=act), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(last, 10)]
    return nn.Sequential(*layers)


def mobilenet_v2() -> nn.Module:
    rows = [(1, 8, 1, 3, 1, 0), (6, 12, 2, 3, 2, 0), (6, 16, 3, 3, 2, 0), (6, 24, 4, 3, 2, 0), (6, 28, 3, 3, 1, 0)]
    return mobile([*rows, (6, 40, 3, 3, 2, 0), (6, 80, 1, 3, 1, 0)], nn.ReLU6, None, 96)


def mobilenet_v3() -> nn.Module:
    rows = [(1, 8, 1, 3, 1, 0), (4, 12, 2, 3, 2, 0), (3, 16, 3, 5, 2, 1), (6, 20, 4, 3, 2, 0), (6, 28, 2, 3, 1, 1)]
    return mobile([*rows, (6, 40, 3, 5, 2, 1)], nn.Hardswish, nn.Hardsigmoid, 96)


def efficientnet_b0() -> nn.Module:
    rows = [(1, 8, 1, 3, 1, 1), (6, 12, 2, 3, 2, 1), (6, 16, 2, 5, 2, 1), (6, 20, 3, 3, 2, 1), (6, 28, 3, 5, 1, 1)]
    return mobile([*rows, (6, 48, 4, 5, 2, 1), (6, 80, 1, 3, 1, 1)], nn.SiLU, nn.Sigmoid, 96)


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x)))


class DenseNet(nn.Module):
    def __init__(self, depths: tuple[int, ...] = (6, 12, 24, 16), growth: int = 4) -> None:
        super().__init__()
        self.stem, width = nn.Sequential(unit(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1)), 8
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for index, depth in enumerate(depths):
            self.blocks.append(nn.ModuleList(DenseLayer(width + i * growth, growth) for i in range(depth)))
            width += depth * growth
            if index + 1 < len(depths):
                conv = nn.Conv2d(width, width // 2, 1, bias=False)
                self.transitions.append(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), conv, nn.AvgPool2d(2)))
                width //= 2
        self.norm, self.fc = nn.BatchNorm2d(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            features = [x]
            for layer in block:
                features.append(layer(features))
            x = torch.cat(features, 1)
            if index < len(self.transitions):
                x = self.transitions[index](x)
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.norm(x)), 1).flatten(1))


class Shuffle(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        depth1 = unit(inputs, inputs, 3, stride, inputs, act=None)
        self.branch1 = nn.Sequential(depth1, unit(inputs, half)) if stride > 1 else None
        depth2 = unit(half, half, 3, stride, half, act=None)
        self.branch2 = nn.Sequential(unit(inputs if stride > 1 else half, half), depth2, unit(half, half))

    def forward(self, x: Tensor) -> Tensor:
        if self.branch1 is None:
            left, right = x.chunk(2, dim=1)
            x = torch.cat((left, self.branch2(right)), 1)
        else:
            x = torch.cat((self.branch1(x), self.branch2(x)), 1)
        batch, channels, height, width = x.shape
        return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, -1, height, width)


def shufflenet_v2() -> nn.Module:
    layers, inputs = [unit(3, 8, 3, 2), nn.MaxPool2d(3, 2, 1)], 8
    for outputs, depth in ((20, 4), (40, 8), (80, 4)):
        for index in range(depth):
            layers.append(Shuffle(inputs, outputs, 1 if index else 2))
            inputs = outputs
    return nn.Sequential(*layers, unit(inputs, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = (q @ k.transpose(-2, -1) * (dim // self.heads) ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))


class EncoderBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attention = nn.LayerNorm(dim), nn.LayerNorm(dim), Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, dim: int = 24, depth: int = 6, heads: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 8, 8)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, dim)), nn.Parameter(torch.randn(1, 17, dim))
        self.blocks = nn.Sequential(*(EncoderBlock(dim, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(len(x), -1, -1), x), 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Speech(nn.Module):
    """Convolutions over time, two recurrent layers, a classifier for every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(unit(3, 12, 3, 2), unit(12, 16, 3, 2))
        self.before = nn.Linear(16 * 8, 20)
        self.gru = nn.GRU(20, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.hidden, self.head = nn.Linear(32, 24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).permute(0, 3, 1, 2).flatten(2)
        x, _ = self.gru(F.relu(self.before(x)))
        return self.head(F.relu(self.hidden(x)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: ResNet(BasicBlock, (2, 2, 2, 2)),
    "resnet50": lambda: ResNet(Bottleneck, (3, 4, 6, 3)),
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
    "efficientnet_b0": efficientnet_b0,
    "densenet121": DenseNet,
    "shufflenet_v2": shufflenet_v2,
    "vit": ViT,
    "gru": Speech,
}


def seasoned(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("scheme", ["filter", "channel"])
@pytest.mark.parametrize("name", NETWORKS)
def test_masked_is_shrunken(name: str, scheme: str) -> None:
    model = seasoned(name)
    images = torch.randn(2, 3, 32, 32)
    report = prune(model, images, Sparsity(scheme, 2))
    assert report.layers
    masked = copy.deepcopy(model)
    shrunken = shrink(model, images)
    assert shrunken.parameters_after < shrunken.parameters_before
    assert shrunken.parameters_after == sum(parameter.numel() for parameter in model.parameters())
    for batch in (2, 5):
        fresh = torch.randn(batch, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(model(fresh), masked(fresh), rtol=1e-5, atol=1e-5)
