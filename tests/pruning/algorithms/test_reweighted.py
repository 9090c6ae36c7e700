import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning import Sparsity, make_algorithm
from pruning.algorithms.reweighted import Reweighted
from pruning.errors import InvalidOption, UnsupportedLayer

PIECES = Sparsity("block(1x4)", 2)


def reweighted(model: nn.Module, sparsity: Sparsity, **options: Any) -> Reweighted:
    algorithm = make_algorithm("reweighted", model, {"0": sparsity}, torch.zeros(1, model[0].in_features), **options)
    assert isinstance(algorithm, Reweighted)
    return algorithm


def matrix(values: Tensor) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(values.shape[1], values.shape[0], bias=False))
    with torch.no_grad():
        model[0].weight.copy_(values)
    return model


def test_penalty_counts_living_weights() -> None:
    torch.manual_seed(0)
    values = torch.randn(6, 10) * 10
    values[2, :4] = 0
    model = matrix(values)
    weight = model[0].weight
    algorithm = reweighted(model, PIECES, strength=1e-4)
    penalty = algorithm.penalty()
    assert penalty.item() == pytest.approx(1e-4 * 56, rel=1e-3)
    (gradient,) = torch.autograd.grad(penalty, weight)
    norms = torch.nn.functional.pad(values, (0, 2)).reshape(6, 3, 4).square().sum(2)
    sizes = torch.tensor([4.0, 4.0, 2.0])
    floor = torch.maximum((0.01 * norms[norms > 0].sqrt().median()).square(), 1e-5 * sizes)
    alpha = (sizes / (norms + floor)).repeat_interleave(4, 1)[:, :10]
    torch.testing.assert_close(gradient, 2e-4 * alpha * values)


def test_alpha_is_set_at_the_start_of_every_round() -> None:
    model = matrix(torch.arange(1.0, 13).reshape(3, 4))
    algorithm = reweighted(model, PIECES, epochs=2, rounds=2)
    changed = []
    for _ in range(6):
        before = algorithm.state_dict()["alpha"]["0"].clone()
        with torch.no_grad():
            model[0].weight.mul_(1.1)
        algorithm.after_epoch()
        changed.append(not torch.equal(before, algorithm.state_dict()["alpha"]["0"]))
    assert changed == [False, True, False, False, False, False]


def test_groups_below_the_threshold_vanish_and_others_shrink_as_derived() -> None:
    """For f = ||W - V||^2 / 2 a group of size n survives if ||V||^2 >= 8 n strength, at the fixed point of
    W = V / (1 + 2 n strength / ||W||^2), ||W|| = (||V|| + sqrt(||V||^2 - 8 n strength)) / 2."""
    strength, size = 0.01, 4
    norms = torch.tensor([0.1, 0.3, 0.5, 0.8, 1.0, 2.0])
    directions = torch.nn.functional.normalize(torch.randn(6, size, generator=torch.Generator().manual_seed(0)))
    goal = norms[:, None] * directions
    model = matrix(goal)
    algorithm = reweighted(model, PIECES, strength=strength, epochs=1, rounds=60)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(60):
        for _ in range(8):
            optimizer.zero_grad()
            ((model[0].weight - goal).square().sum() / 2 + algorithm.penalty()).backward()
            optimizer.step()
        algorithm.after_epoch()
    found = model[0].weight.detach().norm(dim=1)
    survives = norms.square() >= 8 * size * strength
    assert survives.tolist() == [False, False, False, True, True, True]
    for norm, before, lives in zip(found.tolist(), norms.tolist(), survives.tolist(), strict=True):
        if lives:  # the least eps shifts the fixed point; the derived one is for eps = 0
            assert norm == pytest.approx(fixed_point(before, size * strength), abs=1e-3)
            derived = (before + math.sqrt(before**2 - 8 * size * strength)) / 2
            assert norm == pytest.approx(derived, rel=0.01)
        else:
            assert norm < 0.2 * before


def fixed_point(norm: float, strength: float) -> float:
    """w = norm / (1 + 2 strength / (w^2 + strength / 10)), from above."""
    w = norm
    for _ in range(10_000):
        w = norm / (1 + 2 * strength / (w**2 + strength / 10))
    return w


def test_rates_follow_from_the_weights() -> None:
    torch.manual_seed(0)
    values = torch.randn(8, 12)
    values[:, :8] *= 1e-3
    model = matrix(values)
    algorithm = reweighted(model, PIECES, removable=0.002)
    algorithm.finish()
    assert torch.equal(algorithm.masks["0"], (torch.arange(12) >= 8).expand(8, 12))
    removed = model[0].weight.detach() - values
    assert float(removed.square().sum()) <= 0.002 * float(values.square().sum())


def test_one_rate_cannot_follow_from_the_weights() -> None:
    with pytest.raises(UnsupportedLayer, match=r"'0': nm.* has one rate"):
        reweighted(matrix(torch.ones(4, 8)), Sparsity("nm(2:4)", 2), removable=0.01)


@pytest.mark.parametrize(
    "options", [{"strength": 0}, {"strength": math.nan}, {"epochs": 0}, {"rounds": 0}, {"removable": 1}]
)
def test_options_outside_their_range(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        reweighted(matrix(torch.ones(4, 8)), PIECES, **options)
