"""Kernel families; importing this package registers them."""

from compiler.kernels import convert, depthwise, elementwise, filter_vector, pool
from compiler.kernels.base import FAMILIES, Code, Operands, Schedule, schedule

__all__ = [
    "FAMILIES",
    "Code",
    "Operands",
    "Schedule",
    "convert",
    "depthwise",
    "elementwise",
    "filter_vector",
    "pool",
    "schedule",
]
