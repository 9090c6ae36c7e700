"""In what number format a training computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

import torch

from training.strided_depthwise import StridedDepthwiseInFp32


class Precision(StrEnum):
    """How convolutions and matrix products of a training step are computed; weights and losses are fp32 in any case.

    `AUTO` is bf16 where the device has instructions for it, and fp32 elsewhere.
    """

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"

    def on(self, device: torch.device) -> Precision:
        """What this is on a device: fp32 or bf16."""
        if self is not Precision.AUTO:
            return self
        return Precision.BF16 if _computes_bf16(device) else Precision.FP32

    @contextmanager
    def autocast(self, device: torch.device) -> Iterator[None]:
        """Within it, forward passes compute in this format, but for the kernels that a CPU has not got in it."""
        if self.on(device) is Precision.FP32:
            yield
            return
        with torch.autocast(device.type, dtype=torch.bfloat16):
            if device.type != "cpu":
                yield
                return
            with StridedDepthwiseInFp32():
                yield


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch cannot tell
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
