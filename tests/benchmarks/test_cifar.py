"""Published weights, the peer's channels, and runs that go on where they were stopped; nothing is timed here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.channels import candidates, slimmed, widths
from benchmarks.cifar import CONFIG, read_runs
from benchmarks.errors import AnotherRun, PretrainedUnusable, ResultsMissing
from benchmarks.finetuning import IMAGE, Run, Workshop
from benchmarks.measure import Budget
from benchmarks.pretrained import load_pretrained, published_names, stages
from benchmarks.stages import measure_stages
from benchmarks.zoo.cifar_resnet import CifarResNet, cifar_resnet
from pruning import Sparsity
from training import Dataset, Split

PLAN = ("dense", "block_punched(8x1)@2.5", "unstructured@4")
RUN = Run("small", 8, epochs=2, lr=0.01, seed=0, sparsities=PLAN, algorithm="admm")
RECIPE = {"batch_size": 16, "warmup_epochs": 0.0, "augment": "crop_flip"}


def published(path: Path, depth: int = 8) -> CifarResNet:
    """A network with random weights, written under the published names."""
    torch.manual_seed(0)
    model = cifar_resnet(depth)
    names = dict(published_names(model))
    state = {
        f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": tensor.clone()
        for key, tensor in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    save_file(state, path)
    return model.eval()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    published(path)
    return path


@pytest.fixture
def workshop(weights: Path, tmp_path: Path) -> Workshop:
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randn(48, 3, 32, 32, generator=generator), torch.arange(48) % 10)
    return Workshop(Dataset("noise", split, split, split, 10), {8: weights}, RECIPE, tmp_path / "runs")


def test_published_weights_go_where_they_belong(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    model = published(path)
    names = {name for name in load_file(path) if name.endswith("weight")}
    assert {"conv1.weight", "layer1.0.conv1.weight", "layer3.0.bn2.weight", "linear.weight"} <= names
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_pretrained(8, path)(image), model(image))


def test_weights_of_another_network_are_refused_by_name(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainedUnusable, match=r"ResNet-14 needs layer1\.1\.conv1\.weight.*lacks it"):
        load_pretrained(14, weights)
    with pytest.raises(PretrainedUnusable, match="cannot be read"):
        load_pretrained(8, tmp_path / "none.safetensors")


def test_stages_are_the_convolutions_behind_the_stem() -> None:
    model = cifar_resnet(20)
    found = [[model.get_submodule(name).weight.shape[0] for name in names] for names in stages(model)]
    assert found == [[16] * 6, [32] * 6, [64] * 6]


def test_a_stage_is_pruned_alone(weights: Path) -> None:
    budget = Budget(seconds=0.01, min_rounds=2, warm_rounds=1, sample_us=1.0)
    table = measure_stages(8, weights, ("unstructured@1.25", "unstructured@4"), budget)
    assert list(zip(table["stage"], table["sparsity"], strict=True)) == [
        (0, "dense"),
        *((stage, text) for stage in (1, 2, 3) for text in ("unstructured@1.25", "unstructured@4")),
    ]
    kept = table["energy_kept"]
    assert kept[0] == 1
    assert all(0.8 < kept[mild] < 1 and 0.25 < kept[mild + 1] < kept[mild] for mild in (1, 3, 5))
    assert (table["saved_ms"] == table["measured_ms"][0] - table["measured_ms"]).all()


def test_the_peer_gets_smaller_networks_in_multiples_of_eight(weights: Path) -> None:
    pytest.importorskip("torch_pruning")
    model = load_pretrained(8, weights)
    assert widths(model) == (16, 32, 64)
    slim = slimmed(model, IMAGE, 0.5)
    assert widths(model) == (16, 32, 64)
    assert all(width % 8 == 0 for width in widths(slim))
    assert sum(widths(slim)) < sum(widths(model))
    with torch.no_grad():
        assert slim(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    found = candidates(model, IMAGE)
    assert len({widths(slim) for slim in found.values()}) == len(found)


def test_a_run_may_name_its_layers(tmp_path: Path) -> None:
    path = tmp_path / "runs.yaml"
    path.write_text(
        "data: {name: noise}\nrecipe: {}\nruns:\n"
        "  few: {depth: 8, epochs: 1, lr: 0.1, algorithm: magnitude, sparsities: {blocks.0.first.0: unstructured@4}}\n"
    )
    (run,), _, _ = read_runs(path)
    assert run.plan(cifar_resnet(8)) == {"blocks.0.first.0": Sparsity.parse("unstructured@4")}


def test_a_run_reaches_its_plan_and_is_not_repeated(workshop: Workshop) -> None:
    with pytest.raises(ResultsMissing, match="small-seed0"):
        workshop.trained(RUN)
    workshop.train(RUN)
    model, accuracy = workshop.trained(RUN)
    for names, group_size, rate in zip(stages(model), (1, 8, 1), (1.0, 2.5, 4.0), strict=True):
        for name in names:
            weight = model.get_submodule(name).weight
            groups = weight.numel() // group_size
            assert int((weight != 0).sum()) == group_size * int(groups / rate + 0.5)
    before = {path: path.stat().st_mtime_ns for path in workshop.folder.rglob("*")}
    workshop.train(RUN)
    assert before == {path: path.stat().st_mtime_ns for path in workshop.folder.rglob("*")}
    assert 0 <= accuracy <= 100
    other = Workshop(workshop.data, workshop.weights, {**RECIPE, "batch_size": 8}, workshop.folder)
    with pytest.raises(AnotherRun, match="recipe"):
        other.trained(RUN)


def test_a_run_that_was_stopped_ends_with_the_same_bits(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.train(RUN)
    whole = load_file(workshop.folder / RUN.label / "model.safetensors")
    again = Workshop(workshop.data, workshop.weights, RECIPE, tmp_path / "again")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("builtins.print", stop)  # after the first epoch's checkpoint
        with pytest.raises(KeyboardInterrupt):
            again.train(RUN)
    again.train(RUN)
    for name, tensor in load_file(again.folder / RUN.label / "model.safetensors").items():
        assert torch.equal(tensor, whole[name]), name


def test_the_peer_is_trained_only_after_its_ratio_was_matched(workshop: Workshop) -> None:
    pytest.importorskip("torch_pruning")
    run = Run("peer", 8, epochs=1, lr=0.01, seed=0, as_fast_as="small")
    with pytest.raises(ResultsMissing, match="match it first"):
        workshop.train(run)
    workshop.folder.mkdir()
    workshop.ratio_path(run).write_text('{"ratio": 0.5}')
    workshop.train(run)
    model, _ = workshop.trained(run)
    assert widths(model) == widths(slimmed(workshop.dense(8), IMAGE, 0.5))


def test_the_configuration_that_ships_can_be_carried_out() -> None:
    runs, _, _ = read_runs(CONFIG)
    names = {run.name for run in runs}
    assert len({run.label for run in runs}) == len(runs)
    for run in runs:
        assert run.pruning_epochs <= run.epochs <= 40
        if run.as_fast_as is None:
            assert run.plan(cifar_resnet(run.depth))
        else:
            assert run.as_fast_as in names
