from __future__ import annotations

import copy
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


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match=r"is a folder"):
        export_onnx(nn.Identity(), torch.randn(1, 3), tmp_path)


@pytest.mark.parametrize("inputs", [[], [torch.randn(2, 3), torch.randn(3, 3)], torch.randn(0, 3), torch.tensor(1.0)])
def test_inputs_without_one_common_batch_are_refused(inputs: Tensor | list[Tensor], tmp_path: Path) -> None:
    with pytest.raises(InputMismatch, match=r"batch"):
        export_onnx(nn.Identity(), inputs, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
