"""What holds for every space in `conf/space`; `NPAS_CANDIDATES` says for how many candidates (10000 checks fully)."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from supernet import Candidate, SearchSpace, SuperNet, extract, make_space
from supernet.operators import make_operator
from tests.supernet.test_extraction import shaken

COUNT = int(os.environ.get("NPAS_CANDIDATES", "300"))
INVALID = 10 * COUNT
EXTRACTED = max(4, COUNT // 50)
FOLDER = Path(__file__).parents[2] / "conf" / "space"
SHAPES = {"tiny": (1, 32, 32), "mobile_cifar": (3, 32, 32), "mobile_imagenet": (3, 224, 224)}
SMALLER = {"mobile_imagenet": (3, 64, 64)}  # the same code, in a twelfth of the time


def load(name: str, shape: tuple[int, int, int]) -> SearchSpace:
    return make_space(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()), shape, 10)


@pytest.fixture(params=sorted(SHAPES), scope="module")
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return load(request.param, SHAPES[request.param])


def test_every_file_that_describes_stages_is_covered() -> None:
    staged = {path.stem for path in FOLDER.glob("*.yaml") if "stages" in yaml.safe_load(path.read_text())}
    assert staged == set(SHAPES)


def test_code_json_and_labels_tell_candidates_apart_and_read_back(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    candidates = [space.sample(rng) for _ in range(COUNT)]
    for candidate in candidates:
        assert space.decode(space.encode(candidate)) == candidate
        assert Candidate.from_json(candidate.to_json()) == candidate
    codes, labels = {space.encode(c) for c in candidates}, {tuple(space.labels(c)) for c in candidates}
    assert len(codes) == len(labels) == len(set(candidates))


def test_no_sample_and_no_mutation_is_invalid(space: SearchSpace) -> None:
    """Judged by the rules themselves, not by the tables that samples are drawn from."""
    rng = np.random.default_rng(1)
    judged: dict[tuple[int, str], bool] = {}
    candidate = space.sample(rng)
    for number in range(INVALID):
        candidate = space.mutate(candidate, rng, sites=1 + number % 3) if number % 2 else space.sample(rng)
        for site, choice in enumerate(candidate.choices):
            key = (site, str(choice))
            if key not in judged:
                judged[key] = _legal(space, site, str(choice))
            assert judged[key], key


def _legal(space: SearchSpace, index: int, text: str) -> bool:
    site, (name, scheme, rate) = space.sites[index], text.split("|")
    operator = make_operator(name)
    if name == "skip":
        return site.shortcut and scheme == "dense"
    convs = operator.convs(site)
    if scheme == "dense":
        return rate == "1"
    if scheme.startswith("pattern"):
        return all(conv.kernel == 3 for conv in convs if conv.kind == "conv")
    if scheme.startswith("filter") and not name.startswith("pw_dw"):
        behind = space.sites[index + 1 : index + 2]
        return not site.shortcut and (site.narrows or not any(other.shortcut for other in behind))
    return any(conv.kind == "conv" for conv in convs)


def test_depthwise_convolutions_stay_dense_and_partners_agree(space: SearchSpace) -> None:
    rng = np.random.default_rng(2)
    for _ in range(max(20, COUNT // 20)):
        layers = space.layers(space.sample(rng))
        for layer in layers:
            assert layer.kind != "depthwise" or (layer.sparsity.dense and layer.in_channels == layer.out_channels)
            assert not str(layer.sparsity).startswith("pattern") or layer.kernel == 3
        for site in {layer.site for layer in layers if layer.residual}:
            own = [layer for layer in layers if layer.site == site]
            assert own[0].in_channels == own[-1].out_channels


def test_the_view_is_the_extracted_network(space: SearchSpace) -> None:
    shape = SMALLER.get(space.name, SHAPES[space.name])
    supernet = shaken(load(space.name, shape))
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    rng = np.random.default_rng(3)
    with torch.no_grad():
        for _ in range(EXTRACTED):
            candidate = supernet.space.sample(rng)
            view, plain = supernet(images, candidate), extract(supernet, candidate)(images)
            assert (view - plain).abs().max() <= 1e-5 * max(1.0, view.abs().max().item()), str(candidate)


def test_mobile_spaces_are_large_and_aligned() -> None:
    for name in ("mobile_cifar", "mobile_imagenet"):
        space = load(name, SHAPES[name])
        assert space.size >= 10**30
        rng = np.random.default_rng(4)
        for _ in range(20):
            for layer in space.layers(space.sample(rng))[1:-1]:
                assert layer.in_channels % 8 == layer.out_channels % 8 == 0


def test_a_stage_has_the_width_of_its_first_site() -> None:
    space = load("mobile_cifar", SHAPES["mobile_cifar"])
    rng = np.random.default_rng(5)
    narrowed = 0
    for _ in range(100):
        candidate = space.sample(rng)
        ends = {layer.site: layer.out_channels for layer in space.layers(candidate)}
        for index, site in enumerate(space.sites):
            if site.narrows:
                sparsity, operator = candidate.choices[index].sparsity, make_operator(candidate.choices[index].operator)
                width = site.out_channels
                if sparsity.scheme.removes_filters and operator.filter_conv(site) == len(operator.convs(site)) - 1:
                    width = sparsity.scheme.kept_groups(operator.convs(site)[-1].weight_shape, sparsity.rate)
                stage = [i for i, other in enumerate(space.sites) if other.stage == site.stage and i in ends]
                assert {ends[i] for i in stage} == {width}
                narrowed += width < site.out_channels
    assert narrowed > 10


def test_the_supernet_of_a_narrowing_stage_is_initialised_like_any_other() -> None:
    space = load("mobile_cifar", SHAPES["mobile_cifar"])
    assert SuperNet(space)(torch.zeros(2, 3, 32, 32), space.smallest()).shape == (2, 10)
