"""Networks of the user's own as spaces: legality, codes, and cut networks that compute what the silenced ones do."""

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from pruning.errors import CaptureFailed
from supernet import Candidate, Choice, extract
from supernet.errors import InvalidCandidate, InvalidSpace, NothingToSearch
from supernet.model_space import LayerSite, WidthSite
from supernet.own_model import OwnModel
from training.errors import DataMismatch

COUNT = int(os.environ.get("NPAS_CANDIDATES", "300"))
EXTRACTED = max(6, COUNT // 50)
CONFIG = yaml.safe_load((Path(__file__).parents[2] / "conf" / "space" / "own_model.yaml").read_text())


class Residual(nn.Module):
    """A stem, a block with an identity around it, one with a projection, depthwise and linear layers, a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 24, 3, padding=1, bias=False)
        self.inner_bn = nn.BatchNorm2d(24)
        self.outer = nn.Conv2d(24, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.down = nn.Conv2d(16, 32, 5, stride=2, padding=2)
        self.project = nn.Conv2d(16, 32, 1, stride=2)
        self.hidden = nn.Linear(32 * 16, 40)
        self.classifier = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(F.avg_pool2d(x, 4))))
        x = F.relu(x + self.outer(F.relu(self.inner_bn(self.inner(x)))))
        x = F.relu(self.down(F.relu(self.depthwise(x))) + self.project(x))
        return self.classifier(F.relu(self.hidden(x.flatten(1))))  # type: ignore[no-any-return]


def shaken(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, -1.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.5, generator=generator)
            nn.init.normal_(module.running_mean, std=0.5, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def own() -> OwnModel:
    torch.manual_seed(0)
    return OwnModel(shaken(Residual()), CONFIG, (1, 32, 32), 10).eval()


def drawn(own: OwnModel, count: int) -> Iterator[Candidate]:
    rng = np.random.default_rng(0)
    yield own.space.largest()
    yield own.space.smallest()
    for _ in range(count):
        yield own.space.sample(rng)


def test_sites_are_the_layers_between_the_ends_and_the_widths_they_share(own: OwnModel) -> None:
    layers = [site.name for site in own.space.sites if isinstance(site, LayerSite)]
    widths = {site.name: set(site.group.filters) for site in own.space.sites if isinstance(site, WidthSite)}
    assert layers == ["inner", "outer", "down", "project", "hidden"]
    assert widths == {
        "width of stem": {"stem", "bn", "outer", "depthwise"},
        "width of inner": {"inner", "inner_bn"},
        "width of down": {"down", "project"},
        "width of hidden": {"hidden"},
    }
    assert {"stem", "classifier", "depthwise"} <= own.space.fixed.keys()
    assert "first" in own.space.fixed["stem"]
    assert "dense" in own.space.fixed["depthwise"]


def test_choices_are_what_shapes_allow(own: OwnModel) -> None:
    operators, patterned = {}, set()
    for i, site in enumerate(own.space.sites):
        choices = own.space.choices(i)
        assert len(set(choices)) == len(choices)
        assert all(Choice.parse(str(choice)) == choice for choice in choices)
        operators[site.name] = {choice.operator for choice in choices}
        patterned |= {(site.name, c.operator) for c in choices if c.sparsity.scheme.name == "pattern"}
        structural = {c.sparsity.scheme.removes_filters for c in choices if not c.sparsity.dense}
        assert structural == {isinstance(site, WidthSite)}
    assert operators["inner"] == {"keep", "conv1x1", "dw3x3_pw", "pw_dw3x3_pw(1)", "pw_dw3x3_pw(2)"}
    assert operators["project"] == operators["hidden"] == operators["width of stem"] == {"keep"}
    assert patterned == {("inner", "keep"), ("outer", "keep")}  # the only 3x3 kernels over channels
    assert own.space.size == np.prod([float(len(own.space.choices(i))) for i in range(len(own.space.sites))])


def test_code_json_and_labels_read_back_and_mutants_are_legal(own: OwnModel) -> None:
    rng = np.random.default_rng(1)
    space = own.space
    for _ in range(COUNT):
        candidate = space.sample(rng)
        assert space.decode(space.encode(candidate)) == candidate
        assert Candidate.from_json(candidate.to_json()) == candidate
        assert len(space.labels(candidate)) == len(space.sites)
        space.validate(space.mutate(candidate, rng, sites=2))
    assert sum(1 for _ in space.neighbours(candidate)) == sum(
        len(space.choices(i)) - 1 for i in range(len(space.sites))
    )
    assert {i for edge in space.edges for i in edge} == set(range(len(space.sites)))


def test_the_cut_network_computes_what_the_silenced_one_does(own: OwnModel) -> None:
    images = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    before = copy.deepcopy(own.state_dict())
    with torch.no_grad():
        for candidate in drawn(own, EXTRACTED):
            view, plain = own(images, candidate), extract(own, candidate)(images)
            assert (view - plain).abs().max() <= 1e-5 * max(1.0, view.abs().max().item()), str(candidate)
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())


def test_the_largest_is_the_network_itself(own: OwnModel) -> None:
    images = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(extract(own, own.space.largest())(images), own.network(images))


def test_widths_and_masks_are_exact(own: OwnModel) -> None:
    for candidate in drawn(own, 10):
        network = extract(own, candidate)
        chosen = dict(zip(own.space.site_names, candidate.choices, strict=True))
        for site in own.space.sites:
            if isinstance(site, WidthSite):
                sparsity = chosen[site.name].sparsity
                groups = sparsity.scheme.kept_groups((site.group.size, 1), sparsity.rate)
                width = site.group.size if sparsity.dense else groups
                for name in site.group.filters:
                    module = network.get_submodule(name)
                    last = module[-1] if isinstance(module, nn.Sequential) else module
                    assert last.get_parameter("weight").shape[0] == width
        for path, sparsity in own.plan(candidate).items():
            weight = network.get_submodule(path).get_parameter("weight")
            kept = sparsity.scheme.kept_groups(tuple(weight.shape), sparsity.rate)
            assert torch.equal(weight != 0, sparsity.scheme.mask(weight, sparsity.rate))
            assert 0 < kept < sparsity.scheme.group_count(tuple(weight.shape))


def test_a_scheme_of_one_rate_is_offered_at_it_whatever_the_menu() -> None:
    own = OwnModel(shaken(Residual()), {**CONFIG, "schemes": ["nm(1:4)"], "rates": [1, 2, 5]}, (1, 32, 32), 10)
    for site in range(len(own.space.sites)):
        assert {choice.sparsity.rate for choice in own.space.choices(site)} == {1, 4}
    extract(own, own.space.smallest())


def test_a_foreign_candidate_is_refused(own: OwnModel) -> None:
    with pytest.raises(InvalidCandidate, match="sites"):
        own(torch.zeros(1, 1, 32, 32), Candidate((Choice("keep"),)))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean((2, 3))
        return x if x.sum() > 0 else -x


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(DataMismatch, match=r"\[3, 32, 32\]"):
        OwnModel(Residual(), CONFIG, (3, 32, 32), 10)
    with pytest.raises(DataMismatch, match="100 classes"):
        OwnModel(Residual(), CONFIG, (1, 32, 32), 100)
    with pytest.raises(CaptureFailed):
        OwnModel(Branching(), CONFIG, (1, 32, 32), 10)
    with pytest.raises(NothingToSearch, match="first and the last"):
        OwnModel(nn.Sequential(nn.Conv2d(1, 10, 32), nn.Flatten()), CONFIG, (1, 32, 32), 10)
    for change in ({"schemes": ["channel(8)"]}, {"rates": [0.5]}, {"stages": []}, {"schemes": ["blocks"]}):
        with pytest.raises(InvalidSpace):
            OwnModel(Residual(), CONFIG | change, (1, 32, 32), 10)
