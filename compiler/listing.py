"""What is known of a compiled network beside its code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Listing:
    """What is known of a compiled network beside its code.

    Attributes:
        command: command of the C compiler.
        compiler: its version line.
        kernels: a row a kernel, in execution order: `layer`, the columns of `KernelSpec.to_dict`, `family`, `form`,
            `tile`, `why`, `cycles` (analytic), `bytes`, `spec_index`.
        source: the whole network as one C file.
        live_bytes: bytes of the largest set of tensors alive together, working memory of kernels apart.
    """

    command: str
    compiler: str
    kernels: tuple[Mapping[str, Any], ...]
    source: str
    live_bytes: int
