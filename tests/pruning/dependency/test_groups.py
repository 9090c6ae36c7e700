import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning import CoupledGroup, Sparsity, coupled_groups, prune, shrink
from pruning.errors import CaptureFailed


class Network(nn.Module):
    """A residual stage, a depthwise and a grouped convolution, a concatenation, a classifier behind a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.left = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)
        self.right, self.depth = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.grouped = nn.Conv2d(6, 4, 1, groups=2)
        self.head = nn.Linear(10 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        y = x + self.right(torch.relu(self.depth(self.left(x))))
        z = torch.cat([torch.relu(self.grouped(y)), y], 1)
        return self.head(F.max_pool2d(z, 2).flatten(1))


@pytest.fixture
def model() -> Network:
    torch.manual_seed(0)
    return Network().eval()


IMAGES = (2, 3, 8, 8)


def by_name(model: nn.Module) -> dict[str, CoupledGroup]:
    return {group.filters[0]: group for group in coupled_groups(model, torch.randn(IMAGES))}


def members(group: CoupledGroup) -> dict[tuple[str, str, int], list[list[int]]]:
    return {
        (member.module, member.tensor, member.axis): [member.indices(unit).tolist() for unit in range(group.size)]
        for member in group.members
    }


def test_members_are_all_that_goes_with_a_unit(model: Network) -> None:
    groups = by_name(model)
    assert {name: group.size for name, group in groups.items()} == {"stem": 3, "left": 4, "grouped": 2}
    single = [[i] for i in range(4)]
    assert members(groups["left"]) == {
        ("left", "weight", 0): single,
        ("left", "bias", 0): single,
        ("depth", "weight", 0): single,
        ("depth", "bias", 0): single,
        ("right", "weight", 1): single,
    }
    pairs = [[0, 3], [1, 4], [2, 5]]  # the grouped convolution has to lose one input in each group
    stage = members(groups["stem"])
    features = [[16 * (4 + i) + j for i in pair for j in range(16)] for pair in pairs]
    assert stage.pop(("head", "weight", 1)) == features
    assert stage.keys() == {
        *(("stem", tensor, 0) for tensor in ("weight", "bias")),
        *(("norm", tensor, 0) for tensor in ("weight", "bias", "running_mean", "running_var")),
        *(("right", tensor, 0) for tensor in ("weight", "bias")),
        ("left", "weight", 1),
        ("grouped", "weight", 1),
    }
    assert all(indices == pairs for indices in stage.values())
    assert groups["stem"].filters == ("stem", "norm", "right")


def test_scores_are_energies_relative_to_each_members_mean(model: Network) -> None:
    group = by_name(model)["left"]
    expected = torch.zeros(4, dtype=torch.float64)
    for weight in (model.left.weight, model.depth.weight, model.right.weight.transpose(0, 1)):
        energy = weight.detach().double().square().flatten(1).sum(1)
        expected += energy / energy.mean()
    torch.testing.assert_close(group.scores(model), expected)


def test_scores_of_grouped_inputs_and_features(model: Network) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.grouped.weight[2:, 1] = 3  # second group, second channel: channel 4, unit 1
    torch.testing.assert_close(by_name(model)["stem"].scores(model), torch.tensor([0, 3, 0], dtype=torch.float64))
    with torch.no_grad():
        model.grouped.weight.zero_()
        model.head.weight[:, 16 * 9 + 3] = 1  # a feature of channel 5 of the stage, unit 2
    torch.testing.assert_close(by_name(model)["stem"].scores(model), torch.tensor([0, 0, 3], dtype=torch.float64))


def test_scale_of_a_layer_does_not_matter(model: Network) -> None:
    group = by_name(model)["stem"]
    before = group.scores(model)
    with torch.no_grad():
        model.head.weight.mul_(1000)
    torch.testing.assert_close(group.scores(model), before)


def test_any_units_can_be_removed(model: Network) -> None:
    for name, group in by_name(model).items():
        for units in ([0], [group.size - 1], list(range(group.size - 1))):
            masked = copy.deepcopy(model)
            group.silence(masked, torch.tensor(units))
            shrunken = copy.deepcopy(masked)
            report = shrink(shrunken, torch.randn(IMAGES))
            assert report.removed[name] == sum(len(group.members[0].indices(unit)) for unit in units)
            images = torch.randn(3, *IMAGES[1:])
            torch.testing.assert_close(shrunken(images), masked(images), rtol=1e-5, atol=1e-5)


def test_nothing_is_shared_or_changed(model: Network) -> None:
    model.train()
    model.norm.eval()
    model.stem.weight.requires_grad_(False)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first, second = (coupled_groups(model, torch.zeros(IMAGES)) for _ in range(2))
    first[0].members[0].units.fill_(7)
    assert not bool((second[0].members[0].units == 7).any())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert (model.training, model.norm.training) == (True, False)
    assert not model.stem.weight.requires_grad
    assert model.left.weight.requires_grad
    assert not any(parameter.grad is not None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_fast_attention_stays_switched_on() -> None:
    model = nn.TransformerEncoderLayer(6, 2, 16, batch_first=True).eval()
    assert torch.backends.mha.get_fastpath_enabled()
    (group,) = coupled_groups(model, torch.randn(2, 7, 6))
    assert torch.backends.mha.get_fastpath_enabled()
    assert (group.filters, group.size) == (("linear1",), 16)


def test_models_can_be_freed() -> None:
    model = Network()
    coupled_groups(model, torch.randn(IMAGES))
    shrink(model, torch.randn(IMAGES))
    gone = weakref.ref(model)
    weight = weakref.ref(model.stem.weight)
    del model
    gc.collect()
    assert gone() is None
    assert weight() is None


def test_models_without_layers_have_no_groups() -> None:
    assert coupled_groups(nn.ReLU(), torch.randn(IMAGES)) == ()


def test_models_that_cannot_be_followed() -> None:
    class Depends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if bool(x.sum() > 0) else -x

    with pytest.raises(CaptureFailed, match="data-dependent"):
        coupled_groups(Depends(), torch.randn(IMAGES))


class Pooled(nn.Module):
    """A learned query asks all places; keys and values are projected in one product, which is split with its bias."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.ones(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.hidden, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(self.query.expand(len(x), -1, -1), x, x, need_weights=False)
        return self.out(torch.relu(self.hidden(y[:, 0])))  # type: ignore[no-any-return]


def test_channels_are_followed_through_attention_with_another_query() -> None:
    model, x = Pooled().eval(), torch.randn(2, 5, 8)
    assert [group.size for group in coupled_groups(model, x) if "hidden" in group.filters] == [6]
    prune(model, x, {"hidden": Sparsity("filter", 2)})
    expected = model(x)
    assert shrink(model, x).removed == {"hidden": 3}
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5)
