"""Training in bf16 computes in bf16, keeps its weights in fp32, and is told apart from a training in fp32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from training import Dataset, Recipe, evaluate, fit
from training.errors import CheckpointMismatch
from training.precision import Precision

MakeCnn = Callable[..., nn.Sequential]
CPU = torch.device("cpu")
CAPABILITIES = "training.precision.torch.cpu.get_capabilities"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx512_bf16": True}, Precision.BF16),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": True}, Precision.BF16),
        ({"bf16": True, "neon": True}, Precision.BF16),
        ({"avx2": True, "avx512_bf16": False}, Precision.FP32),
        ({}, Precision.FP32),
    ],
)
def test_auto_is_bf16_where_there_are_instructions_for_it(
    found: dict[str, bool], expected: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CAPABILITIES, lambda: found)
    assert Precision.AUTO.on(CPU) is expected
    assert Precision.FP32.on(CPU) is Precision.FP32
    assert Precision.BF16.on(CPU) is Precision.BF16


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_students_and_teachers_compute_as_told(precision: str, few_digits: Dataset, make_cnn: MakeCnn) -> None:
    student, teacher = make_cnn(), make_cnn(seed=1)
    seen: dict[str, set[torch.dtype]] = {"student": set(), "teacher": set()}
    for name, network in (("student", student), ("teacher", teacher)):

        def note(module: nn.Module, inputs: object, output: torch.Tensor, name: str = name) -> None:
            if module.training or name == "teacher":
                seen[name].add(output.dtype)

        network[0].register_forward_hook(note)
    fit(student, few_digits, Recipe(epochs=1, batch_size=32, precision=precision), teacher=teacher)
    expected = torch.bfloat16 if precision == "bf16" else torch.float32
    assert seen == {"student": {expected}, "teacher": {expected}}
    assert {tensor.dtype for tensor in student.state_dict().values()} <= {torch.float32, torch.int64}


def test_a_network_learns_in_bf16(digits: Dataset, make_cnn: MakeCnn) -> None:
    model = make_cnn()
    fit(model, digits, Recipe(epochs=5, batch_size=32, lr=0.05, precision="bf16"))
    assert evaluate(model, digits.test).accuracy > 90


def test_a_training_in_another_precision_is_not_gone_on_with(
    few_digits: Dataset, make_cnn: MakeCnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same recipe on a CPU without bf16 would not be the same training."""
    path, recipe = tmp_path / "state.safetensors", Recipe(epochs=1, batch_size=32, precision="auto")
    monkeypatch.setattr(CAPABILITIES, lambda: {"avx512_bf16": True})
    fit(make_cnn(), few_digits, recipe, checkpoint=path)
    monkeypatch.setattr(CAPABILITIES, dict)
    with pytest.raises(CheckpointMismatch, match="its precision is bf16, here it is fp32"):
        fit(make_cnn(), few_digits, recipe, checkpoint=path)
    with pytest.raises(CheckpointMismatch, match="its recipe"):
        fit(make_cnn(), few_digits, replace(recipe, precision="fp32"), checkpoint=path)
