import torch
from torch import nn

from pruning import Sparsity, make_algorithm, project


def test_filters_near_the_others_go_whatever_their_norm() -> None:
    """Three duplicates are the replaceable ones, though they are the largest."""
    model = nn.Sequential(nn.Conv2d(2, 6, 1, bias=False), nn.ReLU(), nn.Conv2d(6, 2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 3], [3, 3], [3, 3], [0, 4.1], [-1, 0], [4.1, 0]]).reshape(6, 2, 1, 1))
    algorithm = make_algorithm("geometric_median", model, {"0": Sparsity("filter", 2)}, torch.zeros(1, 2, 4, 4))
    algorithm.finish()
    assert algorithm.masks["0"].flatten(1).any(1).tolist() == [False] * 3 + [True] * 3


def test_scores_are_the_sums_of_distances() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    weight = model[0].weight.detach().double()
    scores = [sum(float((row - other).norm()) for other in weight) for row in weight]
    algorithm = make_algorithm("geometric_median", model, {"0": Sparsity("filter", 2)}, torch.zeros(1, 5))
    algorithm.finish()
    kept = set(algorithm.masks["0"].any(1).nonzero().flatten().tolist())
    assert kept == set(sorted(range(8), key=lambda row: -scores[row])[:4])


def test_other_schemes_go_by_energy() -> None:
    model = nn.Sequential(nn.Linear(6, 8))
    sparsity = Sparsity("unstructured", 3)
    mask = project(model[0].weight, sparsity)
    algorithm = make_algorithm("geometric_median", model, {"0": sparsity}, torch.zeros(1, 6))
    algorithm.finish()
    assert torch.equal(algorithm.masks["0"], mask)
