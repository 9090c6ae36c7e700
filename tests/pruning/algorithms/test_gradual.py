import pytest
import torch
from torch import Tensor, nn

from pruning import Sparsity, make_algorithm
from pruning.algorithms.gradual import Gradual
from pruning.errors import InvalidOption


def gradual(model: nn.Module, plan: dict[str, Sparsity], **options: int) -> Gradual:
    algorithm = make_algorithm("gradual", model, plan, torch.zeros(1, 20), **options)
    assert isinstance(algorithm, Gradual)
    return algorithm


def layer() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 20, bias=False))
    return model, model[0].weight


def test_sparsity_follows_the_cubic_curve() -> None:
    model, weight = layer()
    algorithm = gradual(model, {"0": Sparsity("unstructured", 5)}, begin=2, epochs=4)
    for epoch in range(1, 9):
        report = algorithm.after_epoch()
        progress = min(max((epoch - 2) / 4, 0), 1)
        sparsity = 0.8 * (1 - (1 - progress) ** 3)
        assert report["sparsity"] == pytest.approx(sparsity, abs=0.5 / 400 + 1e-9)
        assert int((weight == 0).sum()) == round(report["sparsity"] * 400)


def test_removed_weights_may_return_as_they_were() -> None:
    model, weight = layer()
    algorithm = gradual(model, {"0": Sparsity("unstructured", 2)}, begin=0, epochs=1)
    dense = weight.detach().clone()
    algorithm.after_epoch()
    removed = weight.detach() == 0
    assert int(removed.sum()) == 200
    with torch.no_grad():
        weight.add_(1e-6)
        algorithm.after_step()
        assert not bool(weight[removed].any()), "masks hold between epochs"
        weight[~removed] *= 1e-6
    algorithm.after_epoch()
    assert torch.equal(weight[removed], dense[removed])
    assert not bool(weight[~removed].any())
    with torch.no_grad():
        weight[removed] *= 1e-20
    algorithm.finish()
    torch.testing.assert_close(weight[~removed], (dense[~removed] + 1e-6) * 1e-6)
    assert torch.equal(algorithm.masks["0"], ~removed)


def test_one_rate_comes_at_once() -> None:
    model, weight = layer()
    algorithm = gradual(model, {"0": Sparsity("nm(2:4)", 2)}, begin=0, epochs=50)
    algorithm.after_epoch()
    assert int((weight == 0).sum()) == 200


@pytest.mark.parametrize("options", [{"begin": -1}, {"epochs": 0}])
def test_options_outside_their_range(options: dict[str, int]) -> None:
    with pytest.raises(InvalidOption):
        gradual(layer()[0], {"0": Sparsity("unstructured", 2)}, **options)
