import itertools
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pruning import Sparsity, make_algorithm, project
from pruning.algorithms.admm import Admm
from pruning.errors import InvalidOption

HALF = Sparsity("unstructured", 2)


def admm(model: nn.Module, plan: dict[str, Sparsity], inputs: Tensor, **options: Any) -> Admm:
    algorithm = make_algorithm("admm", model, plan, inputs, **options)
    assert isinstance(algorithm, Admm)
    return algorithm


def linear(inputs: int, outputs: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False))


def descend(model: nn.Module, algorithm: Admm, loss: Any, lr: float, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (loss() + algorithm.penalty()).backward()
        optimizer.step()
        algorithm.after_step()


def test_without_a_loss_weights_reach_their_projection_and_stay() -> None:
    model = linear(8, 8, 0)
    weight = model[0].weight
    goal = weight.detach() * project(weight, HALF)
    algorithm = admm(model, {"0": HALF}, torch.zeros(1, 8), rho=[1.0], epochs=20, period=1)
    residuals = []
    for _ in range(20):
        descend(model, algorithm, lambda: 0.0, 0.5, 30)
        residuals.append(algorithm.after_epoch()["primal_residual"])
    torch.testing.assert_close(weight.detach(), goal, atol=1e-5, rtol=0)
    assert residuals[-1] < 1e-5
    algorithm.finish()
    torch.testing.assert_close(weight.detach(), goal, atol=1e-5, rtol=0)


def test_penalty_is_the_formula() -> None:
    model = linear(6, 4, 1)
    weight = model[0].weight
    algorithm = admm(model, {"0": HALF}, torch.zeros(1, 6), rho=[0.3])
    removed = weight.detach() * ~project(weight, HALF)
    penalty = algorithm.penalty()
    torch.testing.assert_close(penalty, 0.15 * removed.square().sum())
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 0.3 * removed)


def test_duals_add_up_the_residuals() -> None:
    model = linear(6, 4, 2)
    weight = model[0].weight
    algorithm = admm(model, {"0": HALF}, torch.zeros(1, 6), rho=[0.1], epochs=50, period=2)
    total = torch.zeros_like(weight)
    for epoch in range(1, 11):
        with torch.no_grad():
            weight.add_(0.1 * torch.randn_like(weight))
        algorithm.after_epoch()
        state = algorithm.state_dict()
        if epoch % 2 == 0:
            total += weight.detach() - state["Z"]["0"]
        torch.testing.assert_close(state["U"]["0"], total)
        assert int(state["Z"]["0"].count_nonzero()) == 12


def test_stages_raise_rho_and_start_again() -> None:
    model = linear(6, 4, 3)
    algorithm = admm(model, {"0": HALF}, torch.zeros(1, 6), rho=[0.1, 1.0], epochs=3, period=2)
    assert algorithm.epochs == 6
    reports, duals = [], []
    for _ in range(8):
        with torch.no_grad():
            model[0].weight.add_(0.1 * torch.randn(4, 6))
        reports.append(algorithm.after_epoch()["rho"])
        duals.append(bool(algorithm.state_dict()["U"]["0"].any()))
    assert reports == [0.1] * 3 + [1.0] * 5
    assert duals == [False, True, False, False, True, True, True, True]


def test_residuals_are_reported_for_every_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 5, bias=False))
    weights = [layer.weight.detach().clone() for layer in model]
    algorithm = admm(model, {"0": HALF, "1": HALF}, torch.zeros(1, 6), rho=[0.5], epochs=4, period=1)
    with torch.no_grad():
        model[1].weight.mul_(2)
    report = algorithm.after_epoch()
    targets = [weights[0] * project(weights[0], HALF), 2 * weights[1] * project(weights[1], HALF)]
    for index, target in enumerate(targets):
        weight = model[index].weight.detach()
        expected = float((weight - target).norm() / weight.norm())
        assert report[f"primal_residual/{index}"] == pytest.approx(expected, rel=1e-5)
    assert report["dual_residual/0"] == 0
    assert report["dual_residual/1"] == pytest.approx(0.5 * float((targets[1] / 2).norm()), rel=1e-5)
    assert report["primal_residual"] == max(report["primal_residual/0"], report["primal_residual/1"])
    assert report["dual_residual"] == report["dual_residual/1"]


def quadratic(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(6, 6, generator=generator)
    return root @ root.T / 6 + 0.3 * torch.eye(6), torch.randn(6, generator=generator)


def best_subset(hessian: Tensor, goal: Tensor) -> set[int]:
    """Support of the minimiser of (w - goal)' H (w - goal) / 2 among the vectors with three entries."""

    def cost(support: tuple[int, ...]) -> float:
        kept = list(support)
        weight = torch.zeros(6)
        weight[kept] = torch.linalg.solve(hessian[kept][:, kept], (hessian @ goal)[kept])
        return float((weight - goal) @ hessian @ (weight - goal))

    return set(min(itertools.combinations(range(6), 3), key=cost))


def test_quadratic_finds_the_best_subset_more_often_than_magnitude() -> None:
    seeds = range(16)
    found = {"admm": 0, "magnitude": 0}
    for seed in seeds:
        hessian, goal = quadratic(seed)
        best = best_subset(hessian, goal)
        model = linear(6, 1, 0)
        weight = model[0].weight
        with torch.no_grad():
            weight.copy_(goal[None])
        found["magnitude"] += set(project(weight, HALF).nonzero()[:, 1].tolist()) == best
        algorithm = admm(model, {"0": HALF}, torch.zeros(1, 6), rho=[0.1, 0.3, 1.0], epochs=10, period=1)

        def loss(weight: Tensor = weight, hessian: Tensor = hessian, goal: Tensor = goal) -> Tensor:
            return ((weight[0] - goal) @ hessian @ (weight[0] - goal)) / 2

        for _ in range(algorithm.epochs):
            descend(model, algorithm, loss, 0.3, 6)
            algorithm.after_epoch()
        algorithm.finish()
        found["admm"] += set(algorithm.masks["0"].nonzero()[:, 1].tolist()) == best
    assert found["admm"] > len(seeds) / 2
    assert found["admm"] > found["magnitude"]


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    labels = torch.tensor(data.target)
    return images[:1200], labels[:1200], images[1200:], labels[1200:]


def test_projection_after_admm_costs_little_on_digits() -> None:
    train_images, train_labels, test_images, test_labels = digits()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 10),
    )  # fmt: skip
    sparsity = {"2": Sparsity("block_punched(8x1)", 5), "5": Sparsity("unstructured", 5)}

    def epoch(algorithm: Admm | None, lr: float) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        for batch in torch.randperm(1200).split(100):
            loss = nn.functional.cross_entropy(model(train_images[batch]), train_labels[batch])
            optimizer.zero_grad()
            (loss if algorithm is None else loss + algorithm.penalty()).backward()
            optimizer.step()

    def accuracy() -> float:
        return 100 * float((model(test_images).argmax(1) == test_labels).float().mean())

    for _ in range(12):
        epoch(None, 0.05)
    dense = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    make_algorithm("magnitude", model, sparsity, test_images[:1]).finish()
    one_shot = accuracy()
    model.load_state_dict(dense)
    algorithm = admm(model, sparsity, test_images[:1], rho=[0.03, 0.3, 3.0], epochs=4, period=2)
    reports = []
    for _ in range(algorithm.epochs):
        epoch(algorithm, 0.02)
        reports.append(algorithm.after_epoch())
    before = accuracy()
    algorithm.finish()
    assert reports[-1]["primal_residual"] < 0.05 < reports[0]["primal_residual"]
    assert accuracy() > before - 1
    assert accuracy() > one_shot


@pytest.mark.parametrize(
    "options", [{"rho": []}, {"rho": [0.0]}, {"rho": [float("nan")]}, {"epochs": 0}, {"period": 0}, {"epochs": 2}]
)
def test_options_outside_their_range(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        admm(linear(6, 4, 0), {"0": HALF}, torch.zeros(1, 6), **options)
