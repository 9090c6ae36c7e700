"""The activations of a site, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from supernet.layer import Activation

ACTIVATIONS: Mapping[Activation, type[nn.Module]] = MappingProxyType(
    {"none": nn.Identity, "relu": nn.ReLU, "hard_swish": nn.Hardswish}
)
