"""What every algorithm keeps, whichever way its weights go; a new algorithm joins by being registered."""

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning import Algorithm, Sparsity, algorithm_names, make_algorithm, project, shrink
from pruning.algorithm import ALGORITHMS
from pruning.errors import InvalidOption, StateMismatch, UnknownAlgorithm
from training import load_checkpoint, save_checkpoint

PLAN = {
    "expand": Sparsity("filter", 2),
    "reduce": Sparsity("block_punched(4x1)", 3),
    "head": Sparsity("unstructured", 5),
    "classifier": Sparsity(),
}


QUICK: dict[str, dict[str, Any]] = {
    "admm": {"epochs": 2, "period": 1},
    "gradual": {"begin": 0, "epochs": 3},
    "reweighted": {"epochs": 1, "rounds": 3},
    "smart": {"epochs": 4},
}
"""Options with which something happens in every epoch."""
BY_ENERGY = {"admm", "gradual", "magnitude", "reweighted"}
"""Algorithms that keep the groups of largest energy in the end."""


@pytest.fixture(params=algorithm_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def train(model: nn.Module, algorithm: Algorithm, images: Tensor, steps: int) -> None:
    take_steps(model, algorithm, images, steps)
    algorithm.after_epoch()


def take_steps(model: nn.Module, algorithm: Algorithm, images: Tensor, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)
    model.train()
    for _ in range(steps):
        loss = (model(images) - 1).square().mean() + algorithm.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        algorithm.after_step()


def of_layers(algorithm: Algorithm) -> list[dict[str, Any]]:
    """What a state has for each layer."""
    return [value for key, value in algorithm.state_dict().items() if isinstance(value, dict) and key != "options"]


def assert_removed_is_zero(model: nn.Module, algorithm: Algorithm) -> None:
    for layer, mask in algorithm.masks.items():
        weight = model.get_submodule(layer).weight
        assert not bool(weight[~mask].any())
        assert bool(weight[mask].any())
    gone = ~algorithm.masks["expand"].flatten(1).any(1)
    for layer in ("expand_bn", "depth_bn"):
        norm = model.get_submodule(layer)
        assert not any(bool(tensor[gone].any()) for tensor in (norm.weight, norm.bias, norm.running_mean))
    assert not bool(model.get_submodule("depth").weight[gone].any())


def test_nothing_changes_before_finish(name: str, mobile: nn.Module, images: Tensor) -> None:
    before = {key: tensor.clone() for key, tensor in mobile.state_dict().items()}
    algorithm = make_algorithm(name, mobile, PLAN, images)
    algorithm.penalty()
    algorithm.after_step()
    algorithm.after_epoch()
    assert not algorithm.finished
    assert not algorithm.masks
    assert all(torch.equal(tensor, before[key]) for key, tensor in mobile.state_dict().items())


def test_finish_reaches_exactly_the_plan(name: str, mobile: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, mobile, PLAN, images)
    train(mobile, algorithm, images, 3)
    weights = {layer: mobile.get_submodule(layer).weight.detach().clone() for layer in PLAN}
    algorithm.finish()
    assert algorithm.finished
    assert algorithm.masks.keys() == {"expand", "reduce", "head"}
    for layer, mask in algorithm.masks.items():
        scheme, rate = PLAN[layer].scheme, PLAN[layer].rate
        kept, sizes = scheme.totals(mask.int()), scheme.totals(torch.ones_like(mask, dtype=torch.int))
        assert bool(((kept == 0) | (kept == sizes)).all())
        assert int((kept > 0).sum()) == scheme.kept_groups(mask.shape, rate)
        assert torch.equal(mobile.get_submodule(layer).weight, weights[layer] * mask)
    if name in BY_ENERGY:
        for layer in ("expand", "head"):
            assert torch.equal(algorithm.masks[layer], project(weights[layer], PLAN[layer]))


def test_masks_hold_under_momentum_and_weight_decay(name: str, mobile: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, mobile, PLAN, images)
    optimizer = torch.optim.SGD(mobile.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)
    mobile.train()
    for step in range(12):
        if step == 4:  # the optimizer's momentum still points at what is removed
            algorithm.finish()
        optimizer.zero_grad()
        ((mobile(images) - 1).square().mean() + algorithm.penalty()).backward()
        optimizer.step()
        algorithm.after_step()
    assert_removed_is_zero(mobile, algorithm)


def test_masks_hold_under_adamw_autocast_and_accumulation(name: str, mobile: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, mobile, PLAN, images, **QUICK.get(name, {}))
    optimizer = torch.optim.AdamW(mobile.parameters(), lr=0.01, weight_decay=0.1)
    mobile.train()
    for step in range(9):
        if step == 4:
            algorithm.after_epoch()
            algorithm.finish()
        optimizer.zero_grad()
        for part in images.split(2):
            with torch.autocast("cpu", torch.bfloat16):
                loss = (mobile(part) - 1).square().mean() + algorithm.penalty()
            loss.backward()
        optimizer.step()
        algorithm.after_step()
    assert_removed_is_zero(mobile, algorithm)
    assert all(parameter.dtype == torch.float32 for parameter in mobile.parameters())


def test_finished_networks_shrink(name: str, mobile: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, mobile, PLAN, images)
    train(mobile, algorithm, images, 1)
    algorithm.finish()
    train(mobile, algorithm, images, 5)
    made = algorithm.masks["expand"].flatten(1).any(1)
    read = algorithm.masks["reduce"].flatten(2).any(2).any(0)
    count = 24 - int((made & read).sum())
    assert count >= 12
    assert shrink(mobile, images).removed == {"expand": count, "depth": count}


def test_finish_twice_is_finish_once(name: str, mobile: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, mobile, PLAN, images)
    train(mobile, algorithm, images, 1)
    algorithm.finish()
    masks = dict(algorithm.masks)
    train(mobile, algorithm, images, 3)
    algorithm.finish()
    assert all(torch.equal(mask, masks[layer]) for layer, mask in algorithm.masks.items())
    assert float(algorithm.penalty()) == 0


@pytest.mark.parametrize("finished", [False, True])
def test_a_resumed_run_is_the_same_run(
    name: str, finished: bool, images: Tensor, mobile: nn.Module, tmp_path: Path
) -> None:
    """Stopped in the middle of an epoch; the state goes through a checkpoint without pickle."""
    options = QUICK.get(name, {})
    algorithm = make_algorithm(name, mobile, PLAN, images, **options)
    train(mobile, algorithm, images, 2)
    if finished:
        algorithm.finish()
    take_steps(mobile, algorithm, images, 2)
    save_checkpoint(tmp_path / "state", {"model": mobile.state_dict(), "algorithm": algorithm.state_dict()})
    rng = torch.get_rng_state()
    for _ in range(3):
        train(mobile, algorithm, images, 2)
    algorithm.finish()

    state = load_checkpoint(tmp_path / "state")
    again = type(mobile)()
    resumed = make_algorithm(name, again, PLAN, images, **options)
    again.load_state_dict(state["model"])
    resumed.load_state_dict(state["algorithm"])
    torch.set_rng_state(rng)
    for _ in range(3):
        train(again, resumed, images, 2)
    resumed.finish()
    assert all(torch.equal(mask, resumed.masks[layer]) for layer, mask in algorithm.masks.items())
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in mobile.state_dict().items())


def test_going_back_to_an_unfinished_state(name: str, mobile: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, mobile, PLAN, images)
    weights, state = copy.deepcopy((mobile.state_dict(), algorithm.state_dict()))
    train(mobile, algorithm, images, 1)
    algorithm.finish()
    mobile.load_state_dict(weights)
    algorithm.load_state_dict(state)
    assert not algorithm.finished
    algorithm.after_step()
    assert bool(mobile.get_submodule("expand").weight.flatten(1).any(1).all())


def test_states_of_others_are_refused(name: str, mobile: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, mobile, PLAN, images)
    other = make_algorithm(name, mobile, {"head": PLAN["head"]}, images)
    for one in (algorithm, other):
        train(mobile, one, images, 1)
        one.finish()
    with pytest.raises(StateMismatch, match="another"):
        algorithm.load_state_dict(algorithm.state_dict() | {"algorithm": "another"})
    with pytest.raises(StateMismatch, match="masks"):
        algorithm.load_state_dict(algorithm.state_dict() | {"masks": other.masks})


def test_a_state_of_other_rates_is_refused(name: str, mobile: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, mobile, {"head": Sparsity("unstructured", 2)}, images)
    other = make_algorithm(name, mobile, {"head": Sparsity("unstructured", 4)}, images)
    before = algorithm.state_dict()
    with pytest.raises(StateMismatch, match=r"unstructured@4.*unstructured@2"):
        algorithm.load_state_dict(other.state_dict())
    assert not algorithm.finished
    algorithm.load_state_dict(before)


def test_options_are_what_it_was_made_with(name: str, mobile: nn.Module, images: Tensor) -> None:
    parameters = list(inspect.signature(ALGORITHMS[name]).parameters.values())[1:]
    expected = {parameter.name: parameter.default for parameter in parameters} | QUICK.get(name, {})
    options = make_algorithm(name, mobile, PLAN, images, **QUICK.get(name, {})).options
    assert options == {key: list(value) if isinstance(value, tuple) else value for key, value in expected.items()}


@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_state_of_other_options_is_refused(name: str, mobile: nn.Module, images: Tensor) -> None:
    quick = make_algorithm(name, copy.deepcopy(mobile), PLAN, images, **QUICK[name])
    algorithm = make_algorithm(name, mobile, PLAN, images)
    with pytest.raises(StateMismatch, match="options"):
        algorithm.load_state_dict(quick.state_dict())
    assert not algorithm.finished
    algorithm.load_state_dict({key: value for key, value in algorithm.state_dict().items() if key != "options"})


def test_a_dense_plan_does_nothing(name: str, mobile: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, mobile, {"head": Sparsity(), "expand": Sparsity("filter", 1)}, images)
    weight = mobile.get_submodule("head").weight.clone()
    assert float(algorithm.penalty()) == 0
    algorithm.after_epoch()
    assert not any(bool(value) for value in of_layers(algorithm))
    algorithm.finish()
    assert not algorithm.masks
    assert torch.equal(mobile.get_submodule("head").weight, weight)


def test_dense_layers_have_no_state(name: str, mobile: nn.Module, images: Tensor) -> None:
    algorithm = make_algorithm(name, mobile, PLAN, images, **QUICK.get(name, {}))
    train(mobile, algorithm, images, 2)
    assert all(value.keys() <= {"expand", "reduce", "head"} for value in of_layers(algorithm))


def test_unknown_names_list_what_is_known(mobile: nn.Module, images: Tensor) -> None:
    with pytest.raises(UnknownAlgorithm, match="admm, geometric_median, gradual"):
        make_algorithm("ADMM", mobile, PLAN, images)


def test_unknown_options_list_what_is_known(mobile: nn.Module, images: Tensor) -> None:
    with pytest.raises(InvalidOption, match="rho, epochs, period"):
        make_algorithm("admm", mobile, PLAN, images, rhoo=1)
    with pytest.raises(InvalidOption, match="none"):
        make_algorithm("magnitude", mobile, PLAN, images, rho=1)
