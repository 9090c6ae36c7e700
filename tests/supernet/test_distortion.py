"""Distortions against finite differences, and stand-ins against the networks that candidates are cut to."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet import Candidate, Choice, ModelSpace, OwnModel, SearchSpace, SuperNet, distortions, extract
from supernet import distortion as module
from supernet.errors import DistortionFailed
from supernet.model_space import LayerSite

OWN = {
    "name": "own",
    "operators": ["conv1x1", "dw3x3_pw", "pw_dw3x3_pw(2)"],
    "schemes": ["filter(4)", "block_punched(4x2)", "unstructured"],
    "rates": [1, 2, 4],
}


class Net(nn.Module):
    """Writes over what its layers give, as many networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.inner = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.outer = nn.Conv2d(16, 8, 3, stride=2, padding=1)
        self.hidden = nn.Linear(8, 24)
        self.classifier = nn.Linear(24, 5)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(self.bn(self.inner(x)))
        x = self.relu(self.outer(x)).mean((2, 3))
        return self.classifier(self.relu(self.hidden(x)))  # type: ignore[no-any-return]


def pictures(count: int, channels: int = 1) -> Tensor:
    return torch.randn(count, channels, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def own() -> OwnModel:
    torch.manual_seed(0)
    return OwnModel(Net().eval(), OWN, (1, 32, 32), 5).eval()


@pytest.fixture(scope="module")
def supernet(small: SearchSpace) -> SuperNet:
    supernet = SuperNet(small, seed=0).train()
    with torch.no_grad():
        for seed in range(8):
            supernet(pictures(16) * (1 + seed / 8), small.largest())
    return supernet.eval()


@pytest.fixture(params=["own", "supernet"])
def shared(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def changes(shared: Any) -> Iterator[tuple[int, int, Choice]]:
    """Every choice that is not the largest candidate's: site, index and choice."""
    largest = shared.space.largest().choices
    for site in range(len(largest)):
        for index, choice in enumerate(shared.space.choices(site)):
            if choice != largest[site]:
                yield site, index, choice


def replaced(network: nn.Module, path: str, put: nn.Module) -> nn.Module:
    network = copy.deepcopy(network)
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, put)
    return network


class Step(nn.Module):
    """y + step * (z - y) for the z that a stand-in gives, with the mean and the deviation of y in every channel."""

    def __init__(self, usual: nn.Module, other: nn.Module, step: float) -> None:
        super().__init__()
        self.usual, self.other, self.step = usual, other, step

    def forward(self, x: Tensor) -> Tensor:
        y, z = self.usual(x), self.other(x)
        over = (0,) if isinstance(self.usual, nn.Linear) else (0, 2, 3)
        z = z - z.mean(over, keepdim=True)
        spread = z.std(over, correction=0, keepdim=True)
        known = torch.where(spread > 1e-5, y.std(over, correction=0, keepdim=True) / spread.clamp_min(1e-9), 0.0)
        return y + self.step * (z * known + y.mean(over, keepdim=True) - y)


def test_equals_what_small_steps_towards_each_choice_do(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIRECTIONS", 400)
    images, step = pictures(24), 1e-3
    found = distortions(shared, images)
    network = extract(shared, shared.space.largest()).eval().double()
    usual = network(images.double())
    usual = usual - usual.mean(1, keepdim=True)
    checked = 0
    for site, index, choice in list(changes(shared))[::7]:
        total = 0.0
        for path, put in zip(shared.places(site), shared.stand_ins(site, choice), strict=True):
            stepping = replaced(network, path, Step(network.get_submodule(path), put.double(), step))
            moved = stepping(images.double())
            moved = (moved - moved.mean(1, keepdim=True) - usual) / step
            total += float(moved.detach().square().sum(1).mean())
        assert found[site][index] == pytest.approx(total / float(usual.detach().var(0, correction=0).sum()), rel=0.2)
        checked += 1
    assert checked > 5


def test_the_largest_candidate_distorts_nothing_and_all_else_something(shared: Any) -> None:
    found = distortions(shared, pictures(8))
    assert [len(values) for values in found] == [len(shared.space.choices(s)) for s in range(len(found))]
    for site, kept in enumerate(shared.space.largest().choices):
        assert found[site][shared.space.choices(site).index(kept)] == 0
    assert all(found[site][index] > 0 for site, index, _ in changes(shared))


def test_stand_ins_compute_what_the_cut_network_does(own: OwnModel) -> None:
    images = pictures(8)
    network = extract(own, own.space.largest())
    largest = own.space.largest().choices
    for site, _, choice in changes(own):
        for path, put in zip(own.places(site), own.stand_ins(site, choice), strict=True):
            assert put.training
            network = replaced(network, path, put)
        found = network.eval()(images)
        network = extract(own, own.space.largest())
        cut = extract(own, Candidate((*largest[:site], choice, *largest[site + 1 :]))).eval()
        assert torch.allclose(found, cut(images), atol=1e-5), (site, choice)


def test_stand_ins_of_a_supernet_compute_what_the_extracted_blocks_do(supernet: SuperNet) -> None:
    """Where the output narrows, the channels that go are zero and the others are in their order."""
    images = pictures(8)
    network = extract(supernet, supernet.space.largest()).eval()
    largest = supernet.space.largest().choices
    narrowed = 0
    for site, _, choice in changes(supernet):
        (path,), (block,) = supernet.places(site), supernet.stand_ins(site, choice)
        if choice.operator == "skip" or choice.sparsity.scheme.removes_channels:
            continue
        reads = torch.rand(8, network.get_submodule(path).get_submodule("conv1").in_channels, 8, 8)
        found = block(reads)
        cut = extract(supernet, Candidate((*largest[:site], choice, *largest[site + 1 :]))).train()
        expected = cut.get_submodule(path)(reads)
        if expected.shape != found.shape:
            narrowed += 1
            alive = found.flatten(2).abs().sum((0, 2)) > 0
            assert int(alive.sum()) <= expected.shape[1]
            continue
        assert torch.allclose(found, expected, atol=1e-5), (site, choice)
    assert narrowed > 0
    assert torch.isfinite(network(images)).all()


def test_shared_weights_and_random_state_stay(shared: Any) -> None:
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    state = torch.random.get_rng_state()
    first = distortions(shared, pictures(4), seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())
    again, other = distortions(shared, pictures(4), seed=3), distortions(shared, pictures(4), seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


class Blocked(Net):
    """Its first half is out of the gradient's reach."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.relu(self.bn(self.inner(self.relu(self.stem(x)))))
        return self.classifier(self.relu(self.hidden(self.outer(x).mean((2, 3)))))  # type: ignore[no-any-return]


def test_a_network_that_stops_gradients_is_refused() -> None:
    blocked = OwnModel(Blocked().eval(), OWN, (1, 32, 32), 5).eval()
    with pytest.raises(DistortionFailed, match=r"no gradient gets from the outputs to 'inner'.*distortions=null"):
        distortions(blocked, pictures(4))


def test_tells_how_far_it_is(own: OwnModel) -> None:
    done: list[int] = []
    distortions(own, pictures(2), on_site=done.append)
    assert done == list(range(1, len(own.space.site_names) + 1))


def test_outputs_that_are_no_numbers_are_refused(own: OwnModel) -> None:
    broken = copy.deepcopy(own)
    with torch.no_grad():
        broken.network.get_submodule("outer").get_parameter("weight")[0] = torch.nan
    with pytest.raises(DistortionFailed, match="variance of the outputs over 4 pictures is nan"):
        distortions(broken, pictures(4))
    with pytest.raises(DistortionFailed, match="all alike"):
        distortions(own, torch.zeros(4, 1, 32, 32))
    assert isinstance(own.space, ModelSpace)
    site = next(i for i, site in enumerate(own.space.sites) if isinstance(site, LayerSite))
    broken = copy.deepcopy(own)
    with torch.no_grad():
        broken.replacements[str(site)].get_submodule("dw3x3_pw.0").get_parameter("weight").fill_(torch.nan)
    with pytest.raises(DistortionFailed, match=r"dw3x3_pw\|dense\|1 at site 'inner' moves the outputs"):
        distortions(broken, pictures(4))
