import pytest
import torch
from torch import nn

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


def test_importance_is_the_mean_square_of_first_order_changes() -> None:
    model = network()
    algorithm = taylor(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    importance = torch.zeros(5, 3), torch.zeros(4, 5)
    for step in range(4):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model(inputs).square().mean() + algorithm.penalty()).backward()
        gains = [model[index].weight.detach() * model[index].weight.grad for index in (0, 2)]
        importance[0].add_(gains[0].reshape(5, 3, 2).sum(2).square())
        importance[1].add_(gains[1].square())
        optimizer.step()
        algorithm.after_step()
    algorithm.finish()
    kept = torch.zeros(15, dtype=torch.bool).scatter(0, importance[0].flatten().topk(5).indices, True)
    assert torch.equal(algorithm.masks["0"], kept.reshape(5, 3).repeat_interleave(2, 1))
    assert torch.equal(algorithm.masks["2"], importance[1] >= importance[1].flatten().topk(10).values[-1])


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
