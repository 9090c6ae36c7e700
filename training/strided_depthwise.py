"""Strided depthwise convolutions, whose gradients a CPU computes 25 times as fast in fp32 as in bf16."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class StridedDepthwiseInFp32(TorchFunctionMode):
    """Within it, depthwise 2d convolutions with a stride compute in fp32 in spite of autocast, and give what the others
    do.

    oneDNN has no fast kernels for their gradients in bf16: of 64 channels of 32x32, batch 128, they take 78 ms instead
    of 4 on an AMD EPYC of family 26, more than all the rest of a small network.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d and _is_strided_depthwise(*args, **(kwargs or {})):
            return _in_fp32(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _is_strided_depthwise(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
) -> bool:
    strides = (stride,) if isinstance(stride, int) else stride
    return groups > 1 and groups == weight.shape[0] and weight.shape[1] == 1 and max(strides) > 1


def _in_fp32(input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
    dtype = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        output = torch.conv2d(input.float(), weight.float(), None if bias is None else bias.float(), *args, **kwargs)
    return output.to(dtype)
