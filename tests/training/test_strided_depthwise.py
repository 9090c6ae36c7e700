"""Strided depthwise convolutions compute in fp32 under bf16 on a CPU; everything else computes as it is told."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.precision import Precision

CPU = torch.device("cpu")


def gradients(layer: nn.Conv2d, x: Tensor, *, autocast: bool) -> tuple[Tensor, ...]:
    """The output, and the gradients of input and weights for an upstream gradient that bf16 can tell exactly."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with Precision("bf16" if autocast else "fp32").autocast(CPU):
        y = layer(x)
    y.backward(torch.ones_like(y))
    assert x.grad is not None
    return y.detach(), x.grad, *(weight.grad for weight in layer.parameters() if weight.grad is not None)


@pytest.mark.parametrize("stride", [2, (2, 1), (1, 3)])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("bias", [True, False])
def test_they_are_those_of_fp32_and_come_out_as_bf16(
    stride: int, padding_mode: Literal["zeros", "reflect"], bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, 3, stride=stride, padding=1, groups=6, bias=bias, padding_mode=padding_mode)
    x = torch.randn(2, 6, 9, 9)
    expected, *wanted = gradients(layer, x, autocast=False)
    found, *given = gradients(layer, x, autocast=True)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.to(torch.bfloat16))
    assert len(given) == len(wanted) == 2 + bias
    for mine, right in zip(given, wanted, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, right)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 6, 3, stride=2), nn.Conv2d(6, 12, 3, stride=2, groups=3)],
    ids=["depthwise", "strided", "grouped"],
)
def test_others_compute_in_bf16(layer: nn.Conv2d) -> None:
    x = torch.randn(2, 6, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(x)
    with Precision.BF16.autocast(CPU):
        found = layer(x)
    assert torch.equal(found, expected)
    assert not torch.equal(found, layer(x).to(torch.bfloat16))


def test_a_stride_may_be_given_by_place_or_by_name() -> None:
    x, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 1, 3, 3)
    expected = F.conv2d(x, weight, None, 2, 1, 1, 4).to(torch.bfloat16)
    with Precision.BF16.autocast(CPU):
        assert torch.equal(F.conv2d(x, weight, None, 2, 1, 1, 4), expected)
        assert torch.equal(F.conv2d(x, weight=weight, stride=(2, 2), padding=1, groups=4), expected)
    assert F.conv2d(x, weight, stride=2, groups=4).dtype == torch.float32
