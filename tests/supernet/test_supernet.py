from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pruning import Sparsity
from supernet import Candidate, Choice, SearchSpace, SuperNet
from supernet.errors import InvalidCandidate, InvalidSpace
from training import save_checkpoint


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def used(supernet: SuperNet) -> set[str]:
    return {name for name, weight in supernet.named_parameters() if weight.grad is not None and bool(weight.grad.any())}


def with_choice(space: SearchSpace, site: int, text: str) -> Candidate:
    choices = list(space.largest().choices)
    choices[site] = Choice.parse(text)
    return Candidate(tuple(choices))


def test_seed_decides_the_weights_and_nothing_else_is_touched(small: SearchSpace) -> None:
    state = torch.random.get_rng_state()
    one, same, other = SuperNet(small, seed=1), SuperNet(small, seed=1), SuperNet(small, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_gradient_reaches_only_the_operators_in_use(small: SearchSpace) -> None:
    supernet = SuperNet(small)
    supernet(images(), with_choice(small, 2, "dw3x3_pw|dense|1")).square().sum().backward()
    reached = {".".join(name.split(".")[1:3]) for name in used(supernet) if name.startswith("sites.")}
    assert reached == {"0.conv3x3", "1.conv3x3", "2.dw3x3_pw", "3.conv3x3", "4.conv3x3"}


def test_expansion_3_is_a_slice_of_expansion_6(small: SearchSpace) -> None:
    supernet = SuperNet(small)
    supernet(images(), with_choice(small, 1, "pw_dw3x3_pw(3)|dense|1")).square().sum().backward()
    block = supernet.get_submodule("sites.1.pw_dw3x3_pw")
    width = 3 * small.sites[1].in_channels
    for conv in ("conv1", "conv2"):
        gradient = block.get_submodule(conv).weight.grad
        assert isinstance(gradient, Tensor)
        assert gradient.shape[0] == 2 * width
        assert bool(gradient[:width].flatten(1).any(1).all())
        assert not bool(gradient[width:].any())
    gradient = block.get_submodule("conv3").weight.grad
    assert isinstance(gradient, Tensor)
    assert bool(gradient[:, :width].any())
    assert not bool(gradient[:, width:].any())


@pytest.mark.parametrize(
    ("site", "text", "conv"),
    [
        (3, "conv3x3|block_punched(8x4)|3", "sites.3.conv3x3.conv1"),
        (3, "conv1x1|unstructured|10", "sites.3.conv1x1.conv1"),
        (2, "dw3x3_pw|block_punched(8x4)|2", "sites.2.dw3x3_pw.conv2"),
    ],
)
def test_masked_weights_get_no_gradient(small: SearchSpace, site: int, text: str, conv: str) -> None:
    supernet = SuperNet(small)
    candidate = with_choice(small, site, text)
    supernet(images(), candidate).square().sum().backward()
    module = supernet.get_submodule(conv)
    assert isinstance(module, nn.Conv2d)
    assert module.weight.grad is not None
    sparsity = candidate.choices[site].sparsity
    mask = sparsity.scheme.mask(module.weight, sparsity.rate)
    assert bool((module.weight.grad[~mask] == 0).all())
    assert bool((module.weight.grad[mask] != 0).any())


def test_removed_filters_get_no_gradient(small: SearchSpace) -> None:
    supernet = SuperNet(small)
    supernet(images(), with_choice(small, 3, "conv3x3|filter(4)|3")).square().sum().backward()
    conv = supernet.get_submodule("sites.3.conv3x3.conv1")
    assert isinstance(conv, nn.Conv2d)
    assert conv.weight.grad is not None
    kept = Sparsity("filter(4)", 3).scheme.mask(conv.weight, 3).flatten(1)[:, 0]
    assert int(kept.sum()) == 8
    assert torch.equal(conv.weight.grad.flatten(1).any(1), kept)
    consumer = supernet.get_submodule("sites.4.conv3x3.conv1").weight.grad
    assert isinstance(consumer, Tensor)
    assert torch.equal(consumer.transpose(0, 1).flatten(1).any(1), kept)


def test_channels_are_chosen_among_the_filters_that_survived(small: SearchSpace) -> None:
    """The producer keeps 8 of 24; the consumer's most energetic channels are others, but it keeps those 8."""
    supernet = SuperNet(small).eval()
    producer = supernet.get_submodule("sites.3.conv3x3.conv1").weight
    consumer = supernet.get_submodule("sites.4.conv3x3.conv1").weight
    assert isinstance(producer, Tensor)
    assert isinstance(consumer, Tensor)
    with torch.no_grad():
        producer[:8] *= 10
        consumer[:, 8:] *= 10
    choices = list(small.largest().choices)
    choices[3] = Choice.parse("conv3x3|filter(4)|3")
    choices[4] = Choice.parse("conv3x3|channel(4)|2")
    chain = small.chain(Candidate(tuple(choices)))
    selection = supernet.selector()(chain)
    node = next(node for node in chain.nodes if node.layer.name == "sites.3.conv1")
    alive = selection.channels[node.target]
    assert alive is not None
    assert alive.nonzero().squeeze(1).tolist() == list(range(8))
    assert chain.spaces[node.target].kept == 8


def test_another_space_s_candidate_is_refused(small: SearchSpace, tiny: SearchSpace) -> None:
    with pytest.raises(InvalidCandidate):
        SuperNet(small)(images(), tiny.sample(np.random.default_rng(0)))


def test_space_and_weights_read_back(small: SearchSpace, tmp_path: Path) -> None:
    supernet = SuperNet(small, seed=3)
    supernet(images(), small.largest())
    supernet.save(tmp_path / "supernet.safetensors")
    again = SuperNet.load(tmp_path / "supernet.safetensors")
    assert again.space == small
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in supernet.state_dict().items())


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other.safetensors", {"a": 1})
    with pytest.raises(InvalidSpace, match="no supernet"):
        SuperNet.load(tmp_path / "other.safetensors")
