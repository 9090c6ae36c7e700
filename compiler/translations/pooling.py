"""Poolings: windows, adaptive ones, and the mean over all pixels."""

from __future__ import annotations

from torch.fx import Node as FxNode

from compiler.graph import GlobalPool, Op, Pair, Pool, TablePool
from compiler.translation import Capture, Result, argument, handles, shape_of
from compiler.translations.images import as_image, both_ways, image_size, of_each_image

Window = tuple[int, int, int]


@handles("aten.max_pool2d.default", "aten.max_pool1d.default")
def _max_pool(capture: Capture, node: FxNode) -> Result:
    kernel, stride, padding = _window(node)
    dilation, ceil = both_ways(node, argument(node, 4, 1), 1), bool(argument(node, 5, False))
    if dilation == (1, 1) and not ceil:
        return _pool(capture, node, Pool("max", kernel, stride, padding))
    sizes, out = image_size(capture, node), as_image(shape_of(node))
    windows = [_cut(sizes[a], out[1 + a], kernel[a], stride[a], padding[a], dilation[a]) for a in (0, 1)]
    ones = [(1.0,) * len(part) for part in windows]
    return _pool(capture, node, TablePool("max", windows[0], windows[1], ones[0], ones[1]))


@handles("aten.max_pool2d_with_indices.default")
def _max_pool_with_indices(capture: Capture, node: FxNode) -> Result:
    return (str(_max_pool(capture, node)),)


@handles("aten.avg_pool2d.default", "aten.avg_pool1d.default")
def _avg_pool(capture: Capture, node: FxNode) -> Result:
    kernel, stride, padding = _window(node)
    ceil, counted = bool(argument(node, 4, False)), bool(argument(node, 5, True))
    divisor = argument(node, 6) if "2d" in str(node.target) else None
    if not ceil and divisor is None:
        return _pool(capture, node, Pool("avg", kernel, stride, padding, counted))
    sizes, out = image_size(capture, node), as_image(shape_of(node))
    windows = [_cut(sizes[a], out[1 + a], kernel[a], stride[a], padding[a], 1) for a in (0, 1)]
    counts = [
        tuple(float(_counted(i, sizes[a], kernel[a], stride[a], padding[a]) if counted else window[1])
              for i, window in enumerate(windows[a]))
        for a in (0, 1)
    ]  # fmt: skip
    if divisor is not None:
        counts = [(float(divisor),) * out[1], (1.0,) * out[2]]
    return _pool(capture, node, TablePool("avg", windows[0], windows[1], counts[0], counts[1]))


@handles("aten.adaptive_avg_pool2d.default", "aten.adaptive_avg_pool1d.default")
def _adaptive_avg_pool(capture: Capture, node: FxNode) -> Result:
    if as_image(shape_of(node))[1:] == (1, 1):
        return _pool(capture, node, GlobalPool())
    return _pool(capture, node, _adaptive(capture, node, "avg"))


@handles("aten.adaptive_max_pool2d.default", "aten.adaptive_max_pool1d.default")
def _adaptive_max_pool(capture: Capture, node: FxNode) -> Result:
    return (_pool(capture, node, _adaptive(capture, node, "max")),)


def _pool(capture: Capture, node: FxNode, op: Op) -> str:
    shape = as_image(shape_of(node))
    return of_each_image(capture, node, lambda name: capture.store(node, op, shape, name))


def _window(node: FxNode) -> tuple[Pair, Pair, Pair]:
    kernel = both_ways(node, argument(node, 1), 1)
    stride = both_ways(node, argument(node, 2) or argument(node, 1), 1)
    return kernel, stride, both_ways(node, argument(node, 3, 0), 0)


def _cut(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[Window, ...]:
    """Windows without what lies in the padding; of one that lies there wholly, nothing is left."""
    windows = []
    for index in range(out):
        inside = [p for k in range(kernel) if 0 <= (p := index * stride - padding + k * dilation) < size]
        windows.append((inside[0] if inside else 0, len(inside), dilation))
    return tuple(windows)


def _counted(index: int, size: int, kernel: int, stride: int, padding: int) -> int:
    """Elements of a window, padding included, but for what `ceil_mode` adds beyond it."""
    start = index * stride - padding
    return min(start + kernel, size + padding) - start


def _adaptive(capture: Capture, node: FxNode, kind: str) -> TablePool:
    sizes, out = image_size(capture, node), as_image(shape_of(node))[1:]
    windows: list[tuple[Window, ...]] = []
    for size, wanted in zip(sizes, out, strict=True):
        bounds = [(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)]
        windows.append(tuple((first, last - first, 1) for first, last in bounds))
    counts = [tuple(float(count) for _, count, _ in part) for part in windows]
    return TablePool(kind, windows[0], windows[1], counts[0], counts[1])
