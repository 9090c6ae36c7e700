"""Which kernels are never trained on: decided by the kernel alone, so that no run can mix them up."""

from __future__ import annotations

import hashlib
import json

from compiler import KernelSpec

SHARE = 0.25
OPERATIONS = frozenset({"conv", "depthwise"})
"""Only these come in enough variety to spare some. A classifier or a layout change is the same in every network of a
space: held out, it could never be learned."""

UNNAMED = {"reads": "blocked", "writes": "blocked", "out_h": 0, "out_w": 0}
"""Values that a kernel had before it said so: they leave its position where it was."""


def position(spec: KernelSpec) -> float:
    """A fixed, evenly distributed number in [0, 1) for each kernel."""
    described = {key: value for key, value in spec.to_dict().items() if value != UNNAMED.get(key)}
    text = json.dumps(described, sort_keys=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def is_held_out(spec: KernelSpec) -> bool:
    """Whether the kernel belongs to the quarter of its kind that only ever judges a predictor."""
    return spec.op in OPERATIONS and position(spec) < SHARE
