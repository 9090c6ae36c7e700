"""Small networks with every kind of coupling, with batch norm statistics as after training."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

Network = Callable[[], nn.Module]


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options)


class Residual(nn.Module):
    """Two basic blocks, pooling, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = conv(3, 12), nn.BatchNorm2d(12)
        self.conv1, self.bn1 = conv(12, 10), nn.BatchNorm2d(10)
        self.conv2, self.bn2 = conv(10, 12), nn.BatchNorm2d(12)
        self.conv3, self.bn3 = conv(12, 8, stride=2), nn.BatchNorm2d(8)
        self.conv4, self.bn4 = conv(8, 16), nn.BatchNorm2d(16)
        self.down, self.down_bn = conv(12, 16, 1, stride=2), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem_bn(self.stem(x)))
        x = torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        y = self.bn4(self.conv4(torch.relu(self.bn3(self.conv3(x)))))
        y += self.down_bn(self.down(x))
        result: Tensor = self.head(torch.relu(y).mean((2, 3)))
        return result


class Mobile(nn.Module):
    """An inverted residual block between a stem and a head, hard-swish, depthwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = conv(3, 8), nn.BatchNorm2d(8)
        self.expand, self.expand_bn = conv(8, 24, 1), nn.BatchNorm2d(24)
        self.depth, self.depth_bn = conv(24, 24, groups=24), nn.BatchNorm2d(24)
        self.reduce, self.reduce_bn = conv(24, 8, 1), nn.BatchNorm2d(8)
        self.head, self.head_bn = conv(8, 16, 1), nn.BatchNorm2d(16)
        self.act, self.cap, self.pool = nn.Hardswish(inplace=True), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1)
        self.dropout, self.classifier = nn.Dropout(0.2), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cap(self.stem_bn(self.stem(x)))
        y = self.act(self.depth_bn(self.depth(self.act(self.expand_bn(self.expand(x))))))
        x = x + self.reduce_bn(self.reduce(y))
        x = self.pool(self.act(self.head_bn(self.head(x)))).flatten(1)
        result: Tensor = self.classifier(self.dropout(x))
        return result


class Flat(nn.Module):
    """Biases instead of batch norm, a grouped convolution, and linear layers behind a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 8, 3, padding=1, groups=2)
        self.conv3 = nn.Conv2d(8, 6, 1)
        self.hidden, self.hidden_bn = nn.Linear(6 * 16, 14), nn.BatchNorm1d(14)
        self.classifier = nn.Linear(14, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.relu(self.conv3(torch.relu(self.conv2(x))))
        x = torch.relu(self.hidden_bn(self.hidden(x.view(x.size(0), -1))))
        result: Tensor = self.classifier(x)
        return result


NETWORKS: dict[str, Network] = {"residual": Residual, "mobile": Mobile, "flat": Flat}


def seasoned(network: Network) -> nn.Module:
    torch.manual_seed(0)
    model = network()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.5)
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors: threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def residual() -> nn.Module:
    return seasoned(Residual)


@pytest.fixture
def mobile() -> nn.Module:
    return seasoned(Mobile)


@pytest.fixture
def flat() -> nn.Module:
    return seasoned(Flat)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    """Each of the networks in turn."""
    return seasoned(NETWORKS[request.param])


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
