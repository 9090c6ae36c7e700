from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from compiler import onnx_export
from compiler.errors import ExportFailed, InputMismatch
from compiler.onnx_export import export_onnx
from pruning import Sparsity, make_scheme, shrink


class Residual(nn.Module):
    """Every operator of the search space: conv, depthwise, batch norm, hard-swish, add, pooling, linear."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.act = nn.Hardswish()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(image)))
        x = self.act(self.norm2(self.depthwise(x)) + x)
        return self.head(torch.flatten(self.pool(x), 1))


class TwoInputs(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return left + right, left * 2


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1)


class TracedBatch(nn.Module):
    """Runs at every batch size, but is traced for one."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (2.0 if int(x.shape[0]) == 2 else 1.0)


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.tensor(load_digits().images[:8] / 16, dtype=torch.float32)[:, None]


@pytest.fixture
def trained(digits: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = Residual()
    for _ in range(3):
        model(digits)
    return model


class Chunked(nn.Module):
    """Splits a parameter, which the exporter leaves as an operator."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Parameter(torch.arange(8.0))

    def forward(self, x: Tensor) -> Tensor:
        factor, offset = self.both.chunk(2)
        return x * factor + offset


def test_constants_that_stay_operators_are_no_matter_for_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export_onnx(Chunked(), torch.ones(1, 4), tmp_path / "model.onnx")
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_file_computes_what_torch_computes_at_any_batch_size(
    trained: nn.Module, digits: Tensor, tmp_path: Path
) -> None:
    report = export_onnx(trained, digits[:1], tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(report.path)
    trained.eval()
    for size in (1, 2, 5, 8):
        found = session.run(None, {session.get_inputs()[0].name: digits[:size].numpy()})[0]
        with torch.no_grad():
            expected = trained(digits[:size]).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert report.max_error <= 1e-4
    assert len(set(report.batch_sizes)) == 2


def test_single_file_with_folded_batch_norm_and_no_trace_of_the_machine(
    trained: nn.Module, digits: Tensor, tmp_path: Path
) -> None:
    report = export_onnx(trained, digits, tmp_path / "deep" / "folder" / "model.onnx")
    assert [file.name for file in report.path.parent.iterdir()] == ["model.onnx"]
    assert report.bytes == report.path.stat().st_size
    operators = [node.op_type for node in onnx.load(report.path).graph.node]
    assert "BatchNormalization" not in operators
    assert operators.count("Conv") == 2
    content = report.path.read_bytes()
    assert b"forward" not in content
    assert b".py" not in content


def test_fewer_channels_make_a_smaller_file(digits: Tensor, tmp_path: Path) -> None:
    wide = export_onnx(Residual(64), digits, tmp_path / "wide.onnx")
    narrow = export_onnx(Residual(16), digits, tmp_path / "narrow.onnx")
    assert narrow.parameters < wide.parameters / 3
    assert narrow.bytes < wide.bytes


def test_model_is_left_as_it_was(trained: nn.Module, digits: Tensor, tmp_path: Path) -> None:
    trained.train()
    before = copy.deepcopy(trained.state_dict())
    rng = torch.get_rng_state()
    export_onnx(trained, digits, tmp_path / "model.onnx")
    assert trained.training
    assert all(module.training for module in trained.modules())
    assert torch.equal(rng, torch.get_rng_state())
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    report = export_onnx(TwoInputs(), [torch.randn(2, 3), torch.randn(2, 3)], tmp_path / "two.onnx")
    session = onnxruntime.InferenceSession(report.path)
    assert [entry.name for entry in session.get_inputs()] == ["left", "right"]
    left, right = np.ones((4, 3), np.float32), np.full((4, 3), 2, np.float32)
    total, double = session.run(None, {"left": left, "right": right})
    np.testing.assert_array_equal(total, left + right)
    np.testing.assert_array_equal(double, left * 2)


class Packed(nn.Module):
    """Takes any number of inputs and returns a dictionary."""

    def forward(self, *inputs: Tensor) -> dict[str, object]:
        return {"total": inputs[0] + inputs[1], "rest": (inputs[0] * 2, None)}


def test_inputs_without_names_and_outputs_in_dictionaries(tmp_path: Path) -> None:
    report = export_onnx(Packed(), [torch.randn(2, 3), torch.randn(2, 3)], tmp_path / "packed.onnx")
    session = onnxruntime.InferenceSession(report.path)
    left, right = np.ones((4, 3), np.float32), np.full((4, 3), 2, np.float32)
    names = [entry.name for entry in session.get_inputs()]
    total, double = session.run(None, dict(zip(names, (left, right), strict=True)))
    np.testing.assert_array_equal(total, left + right)
    np.testing.assert_array_equal(double, left * 2)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (FixedBatch(), "FixedBatch itself does not run at batch size 1"),
        (TracedBatch(), "constant while TracedBatch was traced"),
    ],
)
def test_model_that_knows_its_batch_size_is_refused(model: nn.Module, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"an earlier export")
    with pytest.raises(ExportFailed, match=said):
        export_onnx(model, torch.randn(2, 3), path)
    assert path.read_bytes() == b"an earlier export"
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_computes_something_else_is_refused(
    trained: nn.Module, digits: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct = onnx_export._trace

    def one_percent_off(*args: Any) -> onnx.ModelProto:
        proto = correct(*args)
        weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "head.weight")
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.01, weight.name))
        return proto

    monkeypatch.setattr(onnx_export, "_trace", one_percent_off)
    with pytest.raises(ExportFailed, match="differs from torch by"):
        export_onnx(trained, digits, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class Infinite(nn.Module):
    """Logarithms that both give; or, in the second place, remainders by infinity, which only torch gives."""

    def __init__(self, *, agreed: bool) -> None:
        super().__init__()
        self.agreed = agreed

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x.log(), x * 2) if self.agreed else (x * 2, torch.remainder(x, torch.inf))


def test_nan_in_a_later_output_is_a_difference(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="infinite or not a number"):
        export_onnx(Infinite(agreed=False), torch.rand(3, 4) + 0.1, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_nan_and_infinities_that_torch_gives_too_are_no_difference(tmp_path: Path) -> None:
    x = torch.tensor([[0.0, -1.0, 0.2, 0.7]])
    assert export_onnx(Infinite(agreed=True), x, tmp_path / "model.onnx").max_error <= 1e-5


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match=r"is a folder"):
        export_onnx(nn.Identity(), torch.randn(1, 3), tmp_path)


@pytest.mark.parametrize("inputs", [[], [torch.randn(2, 3), torch.randn(3, 3)], torch.randn(0, 3), torch.tensor(1.0)])
def test_inputs_without_one_common_batch_are_refused(inputs: Tensor | list[Tensor], tmp_path: Path) -> None:
    with pytest.raises(InputMismatch, match=r"batch"):
        export_onnx(nn.Identity(), inputs, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class Chain(nn.Module):
    """Layers that can be pruned by whole filters, in blocks, and as a product."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.blocks = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 1))
        self.head = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.first(x).relu()).mean((2, 3)))


class Masked(nn.Module):
    """A mask that is still there when the network is exported."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def properties(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_metadata_names_scheme_and_rate_of_every_pruned_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Chain(), torch.randn(2, 1, 8, 8)
    wanted = {"blocks.0": Sparsity("block_punched(16x1)", 4.0), "head": Sparsity("unstructured", 2.0)}
    for name, sparsity in wanted.items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        weight.data *= sparsity.scheme.mask(weight.data, sparsity.rate)
    found = properties(export_onnx(model, x, tmp_path / "model.onnx").path)
    assert set(found) == {f"npas.sparsity.{name}" for name in wanted}
    for name, sparsity in wanted.items():
        assert json.loads(found[f"npas.sparsity.{name}"]) == {"scheme": str(sparsity.scheme), "rate": sparsity.rate}


def test_a_dense_network_has_no_metadata(digits: Tensor, tmp_path: Path) -> None:
    assert properties(export_onnx(Residual(), digits, tmp_path / "model.onnx").path) == {}


def test_masks_become_zeros_in_the_weights_not_operators(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain, x = Chain(), torch.randn(2, 1, 8, 8)
    masked = copy.deepcopy(plain)
    mask = make_scheme("block_punched(16x1)").mask(masked.blocks[0].weight.detach(), 4.0)
    nn.utils.parametrize.register_parametrization(masked.blocks[0], "weight", Masked(mask))
    before = onnx.load(export_onnx(plain, x, tmp_path / "plain.onnx").path).graph
    report = export_onnx(masked, x, tmp_path / "masked.onnx")
    after = onnx.load(report.path).graph
    assert [node.op_type for node in after.node] == [node.op_type for node in before.node]
    zeros = [int((onnx.numpy_helper.to_array(tensor) == 0).sum()) for tensor in after.initializer]
    assert int((~mask).sum()) in zeros
    assert report.bytes < 1.05 * (tmp_path / "plain.onnx").stat().st_size
    assert list(properties(report.path)) == ["npas.sparsity.blocks.0"]


def test_removed_filters_are_gone_from_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Chain().eval(), torch.randn(2, 1, 8, 8)
    for weight in (model.first, model.blocks[0]):
        keep = make_scheme("filter").mask(weight.weight.detach(), 4.0)
        weight.weight.data *= keep
        weight.bias.data *= keep.flatten(1).any(1)
    masked = export_onnx(model, x, tmp_path / "masked.onnx")
    assert json.loads(properties(masked.path)["npas.sparsity.blocks.0"]) == {"scheme": "filter", "rate": 4.0}
    with torch.no_grad():
        expected = model(x)
    shrink(model, x)
    small = export_onnx(model, x, tmp_path / "small.onnx")
    axes_of_the_mean = 2
    assert small.parameters == 8 * 9 + 8 + 8 * 8 * 9 + 8 + 16 * 8 + 16 + 12 * 16 + 12 + axes_of_the_mean
    assert small.bytes < masked.bytes / 4
    assert properties(small.path) == {}
    session = onnxruntime.InferenceSession(small.path)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4 * float(expected.abs().max()))
