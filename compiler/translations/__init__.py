"""What operators of `torch.export` become; importing this package registers them."""

from compiler.translations import (
    conditions,
    convolution,
    elementwise,
    movement,
    normalisation,
    pooling,
    products,
    recurrent,
    reduction,
    resize,
    statistics,
)

__all__ = [
    "conditions",
    "convolution",
    "elementwise",
    "movement",
    "normalisation",
    "pooling",
    "products",
    "recurrent",
    "reduction",
    "resize",
    "statistics",
]
