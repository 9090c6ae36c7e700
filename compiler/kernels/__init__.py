"""Kernel families; importing this package registers them."""

from compiler.kernels import convert, depthwise, elementwise, filter_vector, pixel_panel, pixel_vector, pool, winograd
from compiler.kernels.base import FAMILIES, FAMILIES_OF, Code, Operands, Schedule

__all__ = [
    "FAMILIES",
    "FAMILIES_OF",
    "Code",
    "Operands",
    "Schedule",
    "convert",
    "depthwise",
    "elementwise",
    "filter_vector",
    "pixel_panel",
    "pixel_vector",
    "pool",
    "winograd",
]
