"""Random networks: a program of random instructions, each applicable to the tensors that there are when it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

T = TypeVar("T")
Shape = tuple[int, int, int]
Apply = Callable[..., Tensor | tuple[Tensor, ...]]
MOST_ELEMENTS = 12_000
CHANNELS = (1, 2, 3, 5, 8, 12, 16, 17, 20, 24, 33, 40)


class Draw:
    """Random decisions from one seeded generator."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def of(self, values: Sequence[T]) -> T:
        """One of `values`."""
        return values[self.integer(0, len(values) - 1)]

    def chance(self, share: float) -> bool:
        """True in that share of all cases."""
        return float(torch.rand((), generator=self.generator)) < share

    def tensor(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Normal numbers."""
        return scale * torch.randn(shape, generator=self.generator)


@dataclass(frozen=True)
class Instruction:
    """What is applied to values of these numbers; the results get the next numbers."""

    apply: Apply
    sources: tuple[int, ...]
    text: str


class Program(nn.Module):
    """Runs instructions one after the other; returns the values numbered by `outputs`."""

    def __init__(self, instructions: list[Instruction], outputs: list[int]) -> None:
        super().__init__()
        self.instructions = instructions
        self.outputs = outputs
        self.layers = nn.ModuleList(i.apply for i in instructions if isinstance(i.apply, nn.Module))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        values = [x]
        for instruction in self.instructions:
            found = instruction.apply(*(values[index] for index in instruction.sources))
            values += [found] if isinstance(found, Tensor) else found
        return tuple(values[index] for index in self.outputs)

    def __str__(self) -> str:
        lines = [f"{i.text} of {', '.join(map(str, i.sources))}" for i in self.instructions]
        return "\n".join([*lines, f"returns {self.outputs}"])


class Values:
    """Images that were computed so far, as torch computes them on one sample."""

    def __init__(self, x: Tensor) -> None:
        self.found = [x]

    def images(self) -> list[int]:
        """Numbers of the values that are images, later ones more often."""
        numbers = [index for index, value in enumerate(self.found) if value.ndim == 4]
        return numbers + numbers[len(numbers) // 2 :] + numbers[-2:]

    def shape(self, index: int) -> Shape:
        """(C, H, W)."""
        _, channels, height, width = self.found[index].shape
        return channels, height, width

    def alike(self, index: int, *axes: int) -> list[int]:
        """Images that agree with image `index` in all axes but `axes`."""
        wanted = [size for axis, size in enumerate(self.found[index].shape) if axis not in axes]
        return [
            other
            for other in set(self.images())
            if [size for axis, size in enumerate(self.found[other].shape) if axis not in axes] == wanted
        ]


Rule = Callable[[Draw, Values], Instruction | None]
RULES: dict[str, tuple[Rule, int]] = {}


def rule(weight: int) -> Callable[[Rule], Rule]:
    """Register a kind of instruction, drawn in proportion to `weight`."""

    def register(made: Rule) -> Rule:
        RULES[made.__name__] = (made, weight)
        return made

    return register


def _drawn(draw: Draw, module: nn.Module) -> nn.Module:
    """The module with weights and statistics from the generator."""
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            if name == "running_var":
                tensor.copy_(0.5 + draw.tensor(*tensor.shape).abs())
            else:
                fan = tensor[0].numel() if tensor.ndim > 1 else 4
                tensor.copy_(draw.tensor(*tensor.shape, scale=(2 / fan) ** 0.5))
    return module


def _kill(draw: Draw, layer: nn.Conv2d) -> None:
    """Make whole filters and whole input channels zero, and the biases of some of these filters."""
    with torch.no_grad():
        for axis in (0, 1):
            gone = draw.tensor(layer.weight.shape[axis]) > draw.of([0.0, 1.0, 9.0])
            layer.weight[(slice(None),) * axis + (gone,)] = 0
            if layer.bias is not None and axis == 0 and draw.chance(0.5):
                layer.bias[gone] = 0


def _window(draw: Draw, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, padding and dilation that fit."""
    kernel = draw.of([(1, 1), (3, 3), (3, 3), (5, 5), (2, 2), (1, 3), (3, 2)])
    dilation = draw.of([(1, 1), (1, 1), (1, 1), (2, 2), (1, 2)])
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(
        r // 2 if draw.chance(0.8) or r > size else 0 for r, size in zip(reach, (height, width), strict=True)
    )
    return kernel, (padding[0], padding[1]), dilation


@rule(6)
def convolution(draw: Draw, values: Values) -> Instruction:
    source = draw.of(values.images())
    channels, height, width = values.shape(source)
    kernel, padding, dilation = _window(draw, height, width)
    stride = draw.of([(1, 1), (1, 1), (2, 2), (1, 2), (3, 2)])
    filters, groups = draw.of(CHANNELS), 1
    kind = draw.of(["dense", "dense", "depthwise", "grouped"])
    if kind == "depthwise":
        filters, groups = channels * draw.of([1, 1, 2]), channels
    elif kind == "grouped":
        groups = draw.of([g for g in range(1, channels + 1) if channels % g == 0])
        filters = groups * draw.integer(1, 3)
    layer = nn.Conv2d(channels, filters, kernel, stride, padding, dilation, groups, bias=draw.chance(0.7))
    _drawn(draw, layer)
    dead = draw.chance(0.3)
    if dead:
        _kill(draw, layer)
    return Instruction(layer, (source,), f"{layer}{', some filters or channels zero' if dead else ''}")


@rule(1)
def transposed_convolution(draw: Draw, values: Values) -> Instruction:
    source = draw.of(values.images())
    channels = values.shape(source)[0]
    groups = draw.of([g for g in range(1, channels + 1) if channels % g == 0][:2])
    stride = draw.of([(1, 1), (2, 2), (2, 1)])
    kernel = draw.of([(2, 2), (3, 3), (4, 4), (3, 2)])
    extra = draw.integer(0, 1) if min(stride) > 1 else 0
    filters = groups * draw.of([1, 3, 5, 8])
    layer = nn.ConvTranspose2d(channels, filters, kernel, stride, draw.integer(0, 1), extra, groups)
    return Instruction(_drawn(draw, layer), (source,), str(layer))


@rule(3)
def activation(draw: Draw, values: Values) -> Instruction:
    chosen = draw.of([nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.SiLU(), nn.Sigmoid(), nn.LeakyReLU(0.2), nn.GELU()])
    return Instruction(chosen, (draw.of(values.images()),), str(chosen))


@rule(2)
def batch_norm(draw: Draw, values: Values) -> Instruction:
    source = draw.of(values.images())
    layer = nn.BatchNorm2d(values.shape(source)[0])
    return Instruction(_drawn(draw, layer), (source,), str(layer))


@rule(3)
def pooling(draw: Draw, values: Values) -> Instruction:
    source = draw.of(values.images())
    _, height, width = values.shape(source)
    kernel = draw.of([2, 3])
    padding, stride, ceil = draw.integer(0, kernel // 2), draw.integer(1, 3), draw.chance(0.3)
    kinds: list[nn.Module] = [
        nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil),
        nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=draw.chance(0.5)),
        nn.AdaptiveAvgPool2d((draw.integer(1, height), draw.integer(1, width))),
        nn.AdaptiveMaxPool2d((draw.integer(1, height), draw.integer(1, width))),
    ]
    layer = draw.of(kinds)
    return Instruction(layer, (source,), str(layer))


@rule(5)
def two(draw: Draw, values: Values) -> Instruction | None:
    """A sum, a product or the like; of an image with itself where there is no other."""
    first = draw.of(values.images())
    others = [index for index in values.alike(first) if index != first] or [first]
    name = draw.of(["add", "add", "add", "mul", "sub", "maximum"])
    function: Apply = getattr(torch, name)
    return Instruction(function, (first, draw.of(others)), name)


@rule(3)
def choice(draw: Draw, values: Values) -> Instruction:
    """One image or another where a third is above a number, times by how much it is, so that there is no jump."""
    first, bound = draw.of(values.images()), draw.of([-0.5, 0.0, 0.5])
    alike = values.alike(first)
    sources = (first, draw.of(alike), draw.of(alike))
    if draw.chance(0.3):
        return Instruction(
            lambda x, y, _: torch.where(x > bound, y, 0.25) * (x - bound), sources, f"choice of y or 0.25 at {bound}"
        )
    return Instruction(
        lambda x, y, z: torch.where(x > bound, y, z) * (x - bound), sources, f"choice of y or z at {bound}"
    )


@rule(5)
def concatenation(draw: Draw, values: Values) -> Instruction:
    first, axis = draw.of(values.images()), draw.of([1, 1, 1, 2, 3])
    sources = (first, *(draw.of(values.alike(first, axis)) for _ in range(draw.integer(1, 2))))
    return Instruction(lambda *found: torch.cat(found, axis), sources, f"cat along {axis}")


@rule(3)
def splitting(draw: Draw, values: Values) -> Instruction | None:
    source, axis = draw.of(values.images()), draw.of([1, 1, 2, 3])
    size = values.found[source].shape[axis]
    if size < 2:
        return None
    if draw.chance(0.5):
        count = draw.integer(2, min(4, size))
        return Instruction(lambda x: tuple(x.chunk(count, axis)), (source,), f"chunk {count} along {axis}")
    first = draw.integer(1, size - 1)
    sizes = [first, size - first]
    return Instruction(lambda x: tuple(x.split(sizes, axis)), (source,), f"split {sizes} along {axis}")


@rule(3)
def slicing(draw: Draw, values: Values) -> Instruction:
    source = draw.of(values.images())
    cuts = []
    for size in values.shape(source):
        start = draw.integer(0, (size - 1) // 2) if draw.chance(0.4) else 0
        stop = draw.integer(start + 1, size) if draw.chance(0.3) else size
        cuts.append(slice(start, stop, draw.of([1, 1, 2])))
    return Instruction(lambda x: x[:, cuts[0], cuts[1], cuts[2]], (source,), f"slice {cuts}")


@rule(3)
def shuffling(draw: Draw, values: Values) -> Instruction | None:
    source = draw.of(values.images())
    channels, height, width = values.shape(source)
    groups = [g for g in range(2, channels) if channels % g == 0]
    kinds: list[tuple[str, Apply]] = [
        ("flip", lambda x: x.flip(3)),
        ("roll", lambda x: x.roll((1, 2), (1, 2))),
        ("transpose", lambda x: x.transpose(2, 3)),
        ("pad", lambda x: F.pad(x, (1, 0, 2, 1, 0, 1))),
        ("rows as channels", lambda x: x.permute(0, 2, 1, 3)),
        ("nearest", nn.Upsample(scale_factor=2)),
        ("bilinear", nn.Upsample(scale_factor=2, mode="bilinear")),
    ]
    if groups:
        kinds.append(("channel shuffle", nn.ChannelShuffle(draw.of(groups))))
    if channels % 4 == 0:
        kinds.append(("pixel shuffle", nn.PixelShuffle(2)))
    if height % 2 == width % 2 == 0:
        kinds.append(("pixel unshuffle", nn.PixelUnshuffle(2)))
    text, apply = draw.of(kinds)
    return Instruction(apply, (source,), text)


class Gate(nn.Module):
    """Squeeze-and-excitation, and broadcasts like it."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "channels":
                return x * self.layer(x.mean((2, 3), keepdim=True)).sigmoid()
            case "pixels":
                return x * x.mean(1, keepdim=True)
            case _:
                return x - x.amax(3, keepdim=True)


@rule(2)
def gating(draw: Draw, values: Values) -> Instruction:
    source = draw.of(values.images())
    kind = draw.of(["channels", "channels", "pixels", "rows"])
    return Instruction(_drawn(draw, Gate(values.shape(source)[0], kind)), (source,), f"gate by {kind}")


class Standardised(nn.Module):
    """Norms, variances and sums of exponentials, and what they divide or are taken off from."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "length":
                return F.normalize(x, dim=1)
            case "deviation":
                return (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), correction=0, keepdim=True) + 0.5)
            case _:
                return x - x.logsumexp(3, keepdim=True)


@rule(1)
def standardising(draw: Draw, values: Values) -> Instruction:
    source = draw.of(values.images())
    kind = draw.of(["length", "deviation", "exponentials"])
    return Instruction(Standardised(kind), (source,), f"standardise by {kind}")


@rule(2)
def head(draw: Draw, values: Values) -> Instruction | None:
    """A linear layer on all elements, or on the channels' means: its result is a vector, which nothing else reads."""
    source = draw.of(values.images())
    channels, height, width = values.shape(source)
    flat = draw.chance(0.5)
    size = channels * height * width if flat else channels
    if size > MOST_ELEMENTS // 4:
        return None
    before: nn.Module = nn.Flatten() if flat else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = [before, nn.Linear(size, draw.of(CHANNELS)), draw.of([nn.ReLU(), nn.Identity()])]
    return Instruction(_drawn(draw, nn.Sequential(*layers)), (source,), "flatten, linear" if flat else "mean, linear")


def random_graph(seed: int, *, most: int = 12) -> tuple[Program, Shape]:
    """A program of at most `most` instructions, and the shape of its input.

    It returns most of the values that no instruction reads, and a few of the others.
    """
    draw = Draw(seed)
    shape = (draw.of(CHANNELS), draw.integer(1, 13), draw.integer(1, 13))
    values = Values(draw.tensor(1, *shape))
    rules = [made for made, weight in RULES.values() for _ in range(weight)]
    instructions: list[Instruction] = []
    for _ in range(draw.integer(3, most)):
        instruction = draw.of(rules)(draw, values)
        found = None if instruction is None else _run(instruction, values)
        if instruction is not None and found is not None:
            instructions.append(instruction)
            values.found += found
    read = {source for instruction in instructions for source in instruction.sources}
    last = len(values.found) - 1
    shares = {index: 0.1 if index in read else 0.8 for index in range(1, last)}
    outputs = [*(index for index, share in shares.items() if draw.chance(share)), last]
    return Program(instructions, outputs).eval(), shape


def _run(instruction: Instruction, values: Values) -> list[Tensor] | None:
    """Results on the sample; None where torch refuses the shapes, or numbers or sizes would get out of hand."""
    if isinstance(instruction.apply, nn.Module):
        instruction.apply.eval()
    try:
        with torch.no_grad():
            found = instruction.apply(*(values.found[index] for index in instruction.sources))
    except RuntimeError:
        return None
    results = [found] if isinstance(found, Tensor) else list(found)
    fits = all(0 < value.numel() <= MOST_ELEMENTS and float(value.abs().max()) < 1e3 for value in results)
    return results if fits else None
