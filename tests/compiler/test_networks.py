"""Small versions of the networks that people use compile, dense and masked, and compute what torch computes."""

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from benchmarks.zoo.densenet121 import DenseNet121
from benchmarks.zoo.edsr import EDSR
from benchmarks.zoo.efficientnet_b0 import EfficientNetB0, Stage
from benchmarks.zoo.espcn import ESPCN
from benchmarks.zoo.googlenet import GoogLeNet
from benchmarks.zoo.gru_classifier import GRUClassifier
from benchmarks.zoo.mobilenet_v1 import MobileNetV1
from benchmarks.zoo.mobilenet_v2 import InvertedResidual
from benchmarks.zoo.mobilenet_v3_large import RELU, SWISH, Block, Row
from benchmarks.zoo.resnet18 import BasicBlock
from benchmarks.zoo.resnet50 import Bottleneck
from benchmarks.zoo.shufflenet_v2 import ShuffleNetV2
from benchmarks.zoo.squeezenet import SqueezeNet
from benchmarks.zoo.unet import UNet
from benchmarks.zoo.vgg import VGG
from benchmarks.zoo.vit_tiny import ViTTiny
from compiler import compile_model
from pruning import make_scheme, scheme_names

TOLERANCE = 1e-4
RATE = 3.0
SCHEMES = (
    *("filter", "channel", "unstructured", "pcnn", "nm(1:3)", "pattern(4)", "pattern(4, share=16)"),
    *("block_punched(16x1)", "block_punched(32x1)", "block_punched(16x4)", "block_punched(8x4)", "block_punched(4x1)"),
    *("block_kernel(16x1)", "block_kernel(32x1)", "column", "row_column", "derived_pattern(4)", "block(4x4)"),
    *("transposable_nm(1:3)", "block_row(8x8)", "block_column(8x8)", "block_row_column(8x8)"),
)
# one scheme for all layers, or another one for each
PLANS = {
    "filter": ("filter",),
    "channel": ("channel",),
    **{f"mixed from {SCHEMES[first]}": SCHEMES[first:] + SCHEMES[:first] for first in (0, 11)},
}


def classifier(stem: int, channels: int, *blocks: nn.Module) -> nn.Module:
    """Blocks between a strided convolution and the average of all pixels."""
    return nn.Sequential(
        *(nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(), *blocks),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)),
    )


# a builder of each network, and the shape of its input
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vgg": (lambda: VGG(11, 10, width=8, hidden=40, size=32), (3, 32, 32)),
    "mobilenet_v1": (lambda: MobileNetV1(10, width=0.125), (3, 32, 32)),
    "mobilenet_v2": (
        lambda: classifier(16, 24, InvertedResidual(16, 24, 2, 3), InvertedResidual(24, 24, 1, 3)),
        (3, 19, 21),
    ),
    "mobilenet_v3": (
        lambda: classifier(16, 20, Block(16, Row(3, 32, 20, True, RELU, 2)), Block(20, Row(5, 48, 20, True, SWISH, 1))),
        (3, 24, 24),
    ),
    "efficientnet": (
        lambda: EfficientNetB0(10, stem=12, stages=(Stage(1, 12, 1, 1, 3), Stage(4, 20, 2, 2, 5)), head=48),
        (3, 24, 24),
    ),
    "shufflenet_v2": (lambda: ShuffleNetV2(10, stem=12, stages=((36, 2), (72, 2)), head=40), (3, 32, 32)),
    "squeezenet": (lambda: SqueezeNet(10, width=0.25), (3, 39, 39)),
    "resnet18": (lambda: classifier(32, 48, BasicBlock(32, 32, 1), BasicBlock(32, 48, 2)), (3, 22, 26)),
    "resnet50": (lambda: classifier(32, 96, Bottleneck(32, 16, 1), Bottleneck(64, 24, 2)), (3, 24, 24)),
    "densenet": (lambda: DenseNet121(10, growth=8, blocks=(2, 3)), (3, 32, 32)),
    "googlenet": (
        lambda: GoogLeNet(10, stem=(16, 24), stages=(((16, 8, 24, 4, 8, 8), (8, 12, 16, 8, 12, 8)),)),
        (3, 40, 40),
    ),
    "unet": (lambda: UNet(3, width=8, depth=2), (3, 16, 24)),
    "unet_bilinear": (lambda: UNet(3, width=8, depth=2, bilinear=True), (3, 24, 16)),
    "espcn": (lambda: ESPCN(3, width=32), (1, 13, 11)),
    "edsr": (lambda: EDSR(width=16, blocks=2), (3, 12, 15)),
    "vit": (lambda: ViTTiny(10, width=36, heads=3, blocks=2, patch=8, size=24), (3, 24, 24)),
    "gru": (lambda: GRUClassifier(7, features=20, hidden=18), (11, 20)),
}


@cache
def network(name: str) -> nn.Module:
    """The network with batch norms as after training; to be copied before it is changed."""
    torch.manual_seed(0)
    model = NETWORKS[name][0]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.eval()


def masked(model: nn.Module, schemes: tuple[str, ...]) -> tuple[nn.Module, set[str]]:
    """A copy with every weight masked, and the schemes used: layer i takes the first, from the i-th on, that fits."""
    model, used = copy.deepcopy(model), set()
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    for index, layer in enumerate(layers):
        first = index % len(schemes)
        for text in schemes[first:] + schemes[:first]:
            scheme = make_scheme(text)
            if scheme.supports(layer.weight.shape) is None:
                with torch.no_grad():
                    layer.weight *= scheme.mask(layer.weight, RATE)
                used.add(text)
                break
    return model, used


def compare(model: nn.Module, shape: tuple[int, ...]) -> None:
    """The compiled network against torch at batch 1 and 3, in memory that held NaN before."""
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    compiled = compile_model(model, x)
    compiled.program._arena[:] = 255
    for batch in (x[:1], x):
        with torch.no_grad():
            expected: Tensor = model(batch)
        given = compiled(batch)
        assert given.shape == expected.shape
        assert float((given - expected).abs().max() / expected.abs().max()) <= TOLERANCE


def test_every_scheme_is_used() -> None:
    assert {make_scheme(text).name for text in SCHEMES} | {"dense"} == set(scheme_names())
    used = (masked(network(name), schemes)[1] for name in NETWORKS for schemes in PLANS.values())
    assert set().union(*used) == set(SCHEMES)


@pytest.mark.parametrize("name", NETWORKS)
def test_dense_networks(name: str) -> None:
    compare(network(name), NETWORKS[name][1])


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", NETWORKS)
def test_masked_networks(name: str, plan: str) -> None:
    model, used = masked(network(name), PLANS[plan])
    assert used
    compare(model, NETWORKS[name][1])
