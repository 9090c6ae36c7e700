import pytest
import torch
from torch import Tensor, nn

from pruning import Sparsity, make_algorithm
from pruning.algorithms.taylor import Taylor
from pruning.errors import NeedsTraining

PLAN = {"0": Sparsity("block(1x2)", 3), "2": Sparsity("unstructured", 2)}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


def taylor(model: nn.Module) -> Taylor:
    algorithm = make_algorithm("taylor", model, PLAN, torch.zeros(1, 6))
    assert isinstance(algorithm, Taylor)
    return algorithm


def steps(model: nn.Sequential, algorithm: Taylor, seed: int) -> tuple[Tensor, Tensor]:
    """Gains of the groups of both layers in four steps with losses of different scale: [4, 5, 3] and [4, 4, 5]."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    blocks, weights = [], []
    for step in range(4):
        inputs = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed + step))
        optimizer.zero_grad()
        (2.0**step * model(inputs).square().mean() + algorithm.penalty()).backward()
        gains = [model[index].weight.detach() * model[index].weight.grad for index in (0, 2)]
        blocks.append(gains[0].reshape(5, 3, 2).sum(2))
        weights.append(gains[1])
        optimizer.step()
        algorithm.after_step()
    return torch.stack(blocks), torch.stack(weights)


def kept(blocks: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The masks of what is largest."""
    large = blocks >= blocks.flatten().topk(5).values[-1], weights >= weights.flatten().topk(10).values[-1]
    return large[0].repeat_interleave(2, 1), large[1]


def test_importance_is_the_mean_square_of_first_order_changes() -> None:
    model = network()
    algorithm = taylor(model)
    gains = steps(model, algorithm, seed=7)
    algorithm.finish()
    wanted = kept(*(gain.square().mean(0) for gain in gains))
    assert all(torch.equal(algorithm.masks[name], mask) for name, mask in zip(("0", "2"), wanted, strict=True))
    for other in (kept(*(gain.abs().mean(0) for gain in gains)), kept(*(gain.mean(0).square() for gain in gains))):
        assert not any(torch.equal(one, mask) for one, mask in zip(other, wanted, strict=True))


def test_the_last_whole_epoch_counts() -> None:
    model = network()
    algorithm = taylor(model)
    epochs = []
    for epoch in range(3):
        epochs.append(kept(*(gain.square().mean(0) for gain in steps(model, algorithm, 10 * epoch))))
        if epoch < 2:
            algorithm.after_epoch()
    algorithm.finish()
    assert all(torch.equal(algorithm.masks[name], mask) for name, mask in zip(("0", "2"), epochs[1], strict=True))
    for other in (epochs[0], epochs[2]):
        assert not any(torch.equal(one, mask) for one, mask in zip(other, epochs[1], strict=True))


def test_without_gradients_it_says_so() -> None:
    model = network()
    algorithm = taylor(model)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    algorithm.penalty()
    algorithm.after_step()
    with pytest.raises(NeedsTraining, match="no gradient of 0, 2"):
        algorithm.finish()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not algorithm.finished
