"""What operators of `torch.export` become; importing this package registers them."""

from compiler.translations import convolution, elementwise, pooling, shape

__all__ = ["convolution", "elementwise", "pooling", "shape"]
