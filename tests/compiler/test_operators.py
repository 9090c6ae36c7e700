"""Every operator that the compiler accepts, alone, against torch."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compiler import compile_model, find_target, local_target
from compiler.errors import UnsupportedOperator

IMAGE = (5, 9, 11)
TOKENS = (6, 20)


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> object:
        return self.function(*inputs)


class WithConstant(nn.Module):
    """A function of the input and a parameter."""

    def __init__(self, function: Callable[..., object], *shape: int) -> None:
        super().__init__()
        self.function = function
        self.constant = nn.Parameter(torch.rand(shape) + 0.5)

    def forward(self, x: Tensor) -> object:
        return self.function(x, self.constant)


class Gru(nn.Module):
    """A classifier on the last state of a recurrent layer."""

    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.layer = kind(20, 23, batch_first=True, **options)  # type: ignore[call-arg, arg-type]
        self.last = nn.Linear(23 * (2 if self.layer.bidirectional else 1), 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        output, _ = self.layer(x)
        return output, self.last(output[:, -1])


class States(nn.Module):
    """The last states of a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(20, 10, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, cell) = self.layer(x)
        return torch.cat([hidden[-1], cell[0]], 1)


class Attention(nn.Module):
    """Self-attention with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(20, 4, batch_first=True)
        self.register_buffer("mask", torch.ones(6, 6).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x, x, attn_mask=self.mask, need_weights=False)[0]


class Folded(nn.Module):
    """A layer that finds the second axis in the batch, as of the frames of a film or of the tokens of a sequence."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x.flatten(0, 1))
        return found.unflatten(0, x.shape[:2])


class Quotient(nn.Module):
    """Layers on a quotient, with 21 features, which fill no vector: where there is no feature, 0 is divided by 0."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.above, self.below = nn.Linear(20, 21), nn.Linear(20, 21)
        nn.init.constant_(self.below.bias, 3.0)  # far from zero, near which a logarithm shows every rounding
        self.norm = nn.LayerNorm(21)
        self.gates = nn.GRU(21, 7, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.function(self.above(x), self.below(x).abs() + 0.5)
        return self.norm(found), self.gates(found)[0]


def interleaved(x: Tensor) -> Tensor:
    result = torch.zeros(x.shape[0], 10, 9, 11)
    result[:, ::2] = x
    result[:, 1::2] = x.relu()
    result[:, 0] = 3
    return result


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        features = x.tanh()
    return features * x


def one_key_for_all_heads(x: Tensor) -> Tensor:
    queries = x.unflatten(2, (4, 5)).transpose(1, 2)
    return F.scaled_dot_product_attention(queries, x[:, None, :, :5], x[:, None, :, 5:10])


def sdpa(q: Tensor) -> Tensor:
    heads = q.reshape(q.shape[0], q.shape[1], 2, 10).transpose(1, 2)
    return F.scaled_dot_product_attention(heads, heads.flip(2), heads, is_causal=True).transpose(1, 2).flatten(2)


ACTIVATIONS = [
    *(nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.ELU(0.7), nn.SELU(), nn.CELU(0.6), nn.GELU(), nn.GELU("tanh")),
    *(nn.SiLU(), nn.Mish(), nn.Sigmoid(), nn.Tanh(), nn.Hardtanh(-0.5, 0.4), nn.Hardswish(), nn.Hardsigmoid()),
    *(
        nn.Hardshrink(0.4),
        nn.Softshrink(0.4),
        nn.Softplus(2.0),
        nn.Softsign(),
        nn.Tanhshrink(),
        nn.Threshold(0.2, -1.0),
    ),
    *(nn.LogSigmoid(), nn.PReLU(), nn.PReLU(5), nn.RReLU(), nn.Softmax2d(), nn.GLU(2), nn.Identity(), nn.Dropout()),
    *(nn.LogSoftmax(1), nn.Softmax(3), nn.Softmin(2)),
]


def masked_by_the_input(x: Tensor) -> Tensor:
    allowed = (x.mean(2) > 0) | (torch.arange(x.shape[1]) == 0)
    return F.scaled_dot_product_attention(x, x, x, attn_mask=allowed[:, None, :].expand(-1, x.shape[1], -1))


IMAGES: dict[str, nn.Module] = {
    "grouped": nn.Conv2d(5 * 1, 10, 3, groups=5),
    "padding same, even kernel": nn.Conv2d(5, 7, (4, 2), padding="same", dilation=(1, 3)),
    "reflect padding": nn.Conv2d(5, 7, 3, padding=1, padding_mode="reflect"),
    "transposed": nn.ConvTranspose2d(5, 7, 3, 2, 1, output_padding=1),
    "transposed, dilated, grouped": nn.ConvTranspose2d(5, 10, (3, 2), (1, 3), (2, 0), groups=5, dilation=(2, 1)),
    "transposed, kernel as stride": nn.ConvTranspose2d(5, 16, 2, 2),
    "max pool, ceil": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "max pool, dilated": nn.MaxPool2d((2, 3), 1, 1, dilation=2),
    "max pool, all padding": nn.Sequential(nn.MaxPool2d((2, 1), 1, (1, 0), dilation=(10, 1)), nn.Tanh()),
    "average pool, ceil": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "average pool, ceil, valid": nn.AvgPool2d((2, 3), 2, 1, ceil_mode=True, count_include_pad=False),
    "average pool, divisor": nn.AvgPool2d(3, 2, divisor_override=4),
    "adaptive average": nn.AdaptiveAvgPool2d((4, 3)),
    "adaptive maximum": nn.AdaptiveMaxPool2d((2, 5)),
    "global maximum": nn.AdaptiveMaxPool2d(1),
    "group norm": nn.GroupNorm(5, 5),
    "instance norm": nn.InstanceNorm2d(5, affine=True),
    "layer norm over images": nn.LayerNorm(list(IMAGE)),
    "layer norm over rows": nn.LayerNorm(11),
    "layer norm over fewer elements than channels": nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.LayerNorm([2, 2])),
    "nearest": nn.Upsample(scale_factor=2),
    "nearest, odd": nn.Upsample(size=(7, 20)),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear, aligned": nn.Upsample(size=(20, 8), mode="bilinear", align_corners=True),
    "bicubic": nn.Upsample(scale_factor=1.7, mode="bicubic"),
    "reflection": nn.ReflectionPad2d((1, 2, 3, 0)),
    "replication": nn.ReplicationPad2d((1, 2, 0, 4)),
    "constant padding": nn.ConstantPad2d((1, 2, 0, 4), 0.7),
    "cropping": nn.ZeroPad2d((-1, 2, -3, 1)),
    "unfold": nn.Unfold(3, padding=1, stride=2),
    "shuffles": nn.Sequential(nn.Conv2d(5, 16, 1), nn.PixelShuffle(2), nn.ChannelShuffle(2), nn.ReLU()),
    "unshuffle": nn.Sequential(nn.Upsample((8, 12)), nn.PixelUnshuffle(2)),
    "concat and split": Function(lambda x: torch.cat([*x.relu().split([1, 2, 2], 1)[::-1], x], 1)),
    "concat of rows": Function(lambda x: torch.cat([x, x.tanh()], 3)),
    "stack": Function(lambda x: torch.stack([x, -x], 1).flatten(1, 2)),
    "slices": Function(lambda x: x[:, 1:4, ::2, 3:]),
    "negative slices": Function(lambda x: x[:, -2:, :-1].flip(3)),
    "roll": Function(lambda x: x.roll((2, -1), (2, 3))),
    "expand": Function(lambda x: x[:, :1].expand(-1, 7, -1, -1) * 2),
    "broadcast": Function(lambda x: x * x.mean((2, 3), keepdim=True) + x.amax(1, keepdim=True)),
    "broadcast of rows": Function(lambda x: x - x.mean(3, keepdim=True)),
    "reductions": Function(lambda x: (x.sum((1, 2)), x.amax((2, 3)), x.amin(1), x.max(2).values, x.mean((1, 2, 3)))),
    "norms": Function(
        lambda x: (
            F.normalize(x),
            *(torch.linalg.vector_norm(x, p, (1, 3)) for p in (1, 2, 3, 0.5, math.inf, -math.inf)),
        )
    ),
    "norms of everything": Function(
        lambda x: x / torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True) + x.norm(dim=(2, 3), keepdim=True)
    ),
    "variances": Function(
        lambda x: (x.var(1), x.std((2, 3), keepdim=True) * x, x.var((1, 2), unbiased=False), x.var(3, correction=2.5))
    ),
    "variances of what is far from zero": Function(lambda x: (x + 100).std((1, 2, 3))),
    "variance and mean": Function(lambda x: torch.var_mean(x, (2, 3), correction=0)),
    "sums of exponentials": Function(lambda x: (x.logsumexp(1), (100 * x).logsumexp((2, 3), keepdim=True) + x)),
    "arithmetic": Function(lambda x: (2 - x) / (x.abs() + 1) + x.clamp(-0.5, 0.5).pow(3) - x**2 + 1 / (x.exp() + 1)),
    "two tensors": Function(lambda x: torch.maximum(x, x.flip(2)) * torch.minimum(x, -x) / (x.abs() + 1).sqrt()),
    "functions": Function(
        lambda x: x.sin() + x.cos() + (x.abs() + 0.1).log() + x.floor() + x.ceil() + x.round() + x.sign()
    ),
    "where": Function(lambda x: torch.where(torch.arange(11) > 4, x, 2 * x).masked_fill(torch.arange(11) == 3, -7.0)),
    "functions of the mathematical library": Function(
        lambda x: (
            *(getattr(x, name)() for name in ("atan", "sinh", "cosh", "asinh", "erf", "erfc", "expm1", "exp2")),
            *(getattr(0.9 * x.tanh(), name)() for name in ("asin", "acos", "atanh", "tan")),
            *(getattr(x.abs() + 1, name)() for name in ("log2", "log10", "log1p", "acosh")),
            *(getattr(3 * x, name)() for name in ("trunc", "frac")),
        )
    ),
    "remainders": Function(
        lambda x: (
            *(op(3 * x, 2.0) for op in (torch.fmod, torch.remainder, torch.floor_divide)),
            *(op(3 * x, x.flip(1).abs() + 0.5) for op in (torch.fmod, torch.remainder, torch.floor_divide)),
            torch.div(x, 0.3, rounding_mode="trunc"),
            torch.remainder(x, -0.7),
            torch.atan2(x, x.flip(2)),
        )
    ),
    "clipped by tensors": Function(
        lambda x: torch.clamp(x, x.flip(1), torch.tensor(0.4)).clamp(min=torch.tensor(-1.0))
    ),
    "whole numbers of floats": Function(lambda x: (3 * x).int().float() + (2 * x).long() * x),
    "sums in whole numbers": Function(
        lambda x: (
            x.sum(1, dtype=torch.int64) * 0.5,
            (2 * x).sum((2, 3), True, dtype=torch.int32) + x,
            (x > 0).sum(2) * 0.5,
        )
    ),
    "sums in another precision": Function(lambda x: x.sum(3, dtype=torch.float32) + x.sum(3, dtype=torch.float64)),
    "cosines": Function(lambda x: F.cosine_similarity(x, x.flip(2), dim=1)),
    "infinite": Function(lambda x: (1 / x.round()).isinf().float() + (1 / x.round()).isfinite() * x),
    "patches put back": Function(
        lambda x: F.fold(F.unfold(x, (3, 4), stride=(3, 4), padding=(0, 1)), (9, 11), (3, 4), 1, (0, 1), (3, 4))
    ),
    "patches that overlap": Function(
        lambda x: F.fold(F.unfold(x, (3, 3), padding=1, stride=2), (9, 11), (3, 3), padding=1, stride=2)
    ),
    "gathered": Function(lambda x: x.gather(1, torch.tensor([2, 0, 4]).view(1, 3, 1, 1).expand(x.shape[0], 3, 9, 11))),
    "choices": Function(lambda x: torch.where(x > 0.5, 2.0, -1.0) + torch.where(x > x.flip(2), 0.1 * x, x)),
    "choices of infinities": Function(
        lambda x: torch.where(x > 1, -math.inf, x).softmax(1) + x.masked_fill(x < -1, math.inf).clamp(max=9)
    ),
    "a choice between images": Function(lambda x: torch.where(x.mean((2, 3), keepdim=True) > 0, x, x.amax(1, True))),
    "comparisons with a number": Function(
        lambda x: (x >= 0).float() * x + x * (x < 0.3) + x * (x <= -0.2) + (x.round() == 1) + 2 * (x.round() != 0)
    ),
    "comparisons of two": Function(
        lambda x: (
            torch.stack([op(x, x.flip(3)).float() for op in (torch.gt, torch.ge, torch.lt, torch.le)], 1).flatten(1, 2)
            + torch.stack([(x == x.flip(2)).float(), (x != x.flip(2)).float()], 1).flatten(1, 2).repeat(1, 2, 1, 1)
        )
    ),
    "logic": Function(
        lambda x: (
            (((x > 0) & (x < 1)) | ~(x > -1)).float()
            + torch.logical_xor(x > 0, x > 0.5) * x
            + torch.logical_not(x.round())
            + ((x > 1) + (x < 0)) * x
            + torch.where(x.round().bool() ^ (x > 0), x, 5 - x)
        )
    ),
    "any and all": Function(
        lambda x: (
            (x > 1.9).any(1).float(),
            (x > -1).all(3).float(),
            x.round().any(2).float(),
            (x > 2).any((2, 3)) * 1.0,
        )
    ),
    "mean of what is above": Function(lambda x: (x * (x > 0)).sum((2, 3)) / (x > 0).long().sum((2, 3)).clamp(min=1)),
    "not a number": Function(lambda x: torch.where(torch.isnan(x.log()), 0.0, x.abs().log())),
    "powers": Function(lambda x: (x.abs() + 0.2) ** x + (x.abs() + 1) ** -0.5 + (x.abs() + 1).rsqrt()),
    "written in place": Function(interleaved),
    "without gradient": Function(without_gradient),
    "of the same shape": Function(
        lambda x: torch.cat([torch.zeros_like(x), torch.full_like(x, 2) + x, x.new_ones(x.shape[0], 1, 9, 11)], 1)
    ),
    "whole numbers among others": Function(
        lambda x: torch.where(torch.arange(11) > 4, torch.cat([x, torch.full((x.shape[0], 1, 9, 11), 3)], 1), -7)
    ),
    "whole numbers elsewhere": Function(lambda x: torch.where(torch.arange(11) > 4, x, torch.arange(11))),
    "layer scale": WithConstant(lambda x, c: x * c + x, 5, 1, 1),
    "positions": WithConstant(lambda x, c: x + c, 5, 9, 11),
    "stored and concatenated": WithConstant(lambda x, c: torch.cat([x, c.expand(x.shape[0], -1, -1, -1)], 1), 2, 9, 11),
    "einsum": WithConstant(lambda x, c: torch.einsum("nchw,cd->ndhw", x, c), 5, 6),
    "twice through one module": nn.Sequential(*[nn.Conv2d(5, 5, 3, padding=1)] * 2),
    "flatten and linear": nn.Sequential(nn.Flatten(), nn.Linear(5 * 99, 7), nn.BatchNorm1d(7), nn.ReLU()),
    "flatten and more": nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(5 * 99, 7)),
}

SEQUENCES: dict[str, nn.Module] = {
    "linear": nn.Linear(20, 33),
    "layer norm": nn.LayerNorm(20),
    "root mean square norm": nn.RMSNorm(20),
    "encoder": nn.TransformerEncoderLayer(20, 4, 40, batch_first=True, activation="gelu", norm_first=True),
    "masked attention": Attention(),
    "causal attention": Function(sdpa),
    "attention masked by the input": Function(masked_by_the_input),
    "convolution of signals": nn.Sequential(
        nn.Conv1d(6, 9, 3, padding=1), nn.BatchNorm1d(9), nn.ReLU(), nn.MaxPool1d(2)
    ),
    "transposed convolution of signals": nn.ConvTranspose1d(6, 4, 4, 2, 1),
    "poolings of signals": nn.Sequential(nn.AvgPool1d(3, 1, 1), nn.AdaptiveAvgPool1d(7), nn.AdaptiveMaxPool1d(3)),
    "one key for all heads": Function(one_key_for_all_heads),
    "in place and flattened": nn.Sequential(nn.Linear(20, 7), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(42, 3)),
    "batch norm of all tokens": Folded(nn.BatchNorm1d(20)),
    "quotient": Quotient(lambda a, b: a / b),
    "logarithm": Quotient(lambda a, b: a * (b - 0.5).log()),
    "power": Quotient(lambda a, b: (a.abs() + 0.1) ** b),
    "reciprocal": Quotient(lambda a, b: a + b.reciprocal()),
    "an infinity that is not chosen": Quotient(lambda a, b: torch.where(b != 0, a, math.inf)),
    "root": Quotient(lambda a, b: a * (b - 0.5).rsqrt()),
    "power alone": Function(lambda x: x.abs() ** x.flip(1)),
    "matmul": Function(lambda x: x @ x.transpose(1, 2)),
    "matmul with a weight": WithConstant(lambda x, c: x @ c, 20, 12),
    "scores": WithConstant(lambda x, c: torch.einsum("ntd,d->nt", x, c), 20),
    "softmax of tokens": Function(lambda x: x.softmax(1)),
    "mean of tokens": Function(lambda x: x.mean(1)),
    "class token": WithConstant(lambda x, c: torch.cat([c.expand(x.shape[0], 1, 20), x], 1)[:, 0], 1, 1, 20),
    "gru": Gru(nn.GRU),
    "gru, two layers, both ways": Gru(nn.GRU, num_layers=2, bidirectional=True),
    "gru without bias": Gru(nn.GRU, bias=False),
    "lstm": Gru(nn.LSTM),
    "lstm, both ways": Gru(nn.LSTM, bidirectional=True),
    "rnn": Gru(nn.RNN),
    "rnn, relu": Gru(nn.RNN, nonlinearity="relu"),
    "states of an lstm": States(),
}

FILMS: dict[str, nn.Module] = {
    "batch norm": nn.BatchNorm2d(6),
    "group norm": nn.GroupNorm(3, 6),
    "instance norm": nn.InstanceNorm2d(6, affine=True),
    "mean": Function(lambda x: x.mean((2, 3))),
    "convolution": nn.Conv2d(6, 8, 3, stride=2, padding=1),
    "grouped convolution": nn.Conv2d(6, 9, 3, groups=3, dilation=2, padding="same"),
    "convolution, padding same, even kernel": nn.Conv2d(6, 4, 2, padding="same"),
    "transposed convolution": nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1),
    "convolution of signals": nn.Sequential(nn.Flatten(2), nn.Conv1d(6, 4, 3, padding=1), nn.AvgPool1d(3)),
    "poolings": nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2, 1, 1), nn.AdaptiveAvgPool2d(2)),
    "interpolation": nn.Upsample(scale_factor=2, mode="bilinear"),
    "network": nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
}


def compare(model: nn.Module, *inputs: Tensor, tolerance: float = 1e-5, device: str = "local") -> None:
    """The compiled network against torch at two batch sizes, on every output."""
    model = model.eval()
    compiled = compile_model(model, inputs, device=device)
    for batch in (inputs, tuple(value[:1] for value in inputs)):
        with torch.no_grad():
            expected = model(*batch)
        given = compiled(*batch)
        if isinstance(expected, Tensor):
            expected, given = (expected,), (given,)
        for one, other in zip(given, expected, strict=True):
            assert one.shape == other.shape
            scale = other.abs().max().clamp(min=1e-12)
            assert float((one - other).abs().max() / scale) <= tolerance


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: str(module))
def test_activations(activation: nn.Module) -> None:
    torch.manual_seed(0)
    compare(activation, 3 * torch.randn(2, 5, 6, 7))


@pytest.mark.parametrize("name", IMAGES)
def test_operators_on_images(name: str) -> None:
    torch.manual_seed(0)
    compare(IMAGES[name], torch.randn(2, *IMAGE))


@pytest.mark.parametrize("name", SEQUENCES)
def test_operators_on_sequences(name: str) -> None:
    torch.manual_seed(0)
    compare(SEQUENCES[name], torch.randn(2, *TOKENS))


@pytest.mark.parametrize("name", FILMS)
def test_operators_on_films(name: str) -> None:
    torch.manual_seed(0)
    compare(Folded(FILMS[name]), torch.randn(2, 4, 6, 5, 7))


def test_embeddings_take_whole_numbers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 12), nn.LayerNorm(12), nn.GRU(12, 9, batch_first=True))
    compare(Function(lambda tokens: model(tokens)[0]), torch.randint(0, 50, (3, 7)))


def test_padding_is_told_from_words() -> None:
    torch.manual_seed(0)
    words, encoder = nn.Embedding(50, 12), nn.TransformerEncoderLayer(12, 4, 20, batch_first=True).eval()
    tokens = torch.randint(0, 3, (3, 7)).index_fill(1, torch.tensor([0]), 5)
    compare(Function(lambda tokens: encoder(words(tokens), src_key_padding_mask=tokens == 0)), tokens)
    compare(Function(lambda tokens: (words(tokens) * (tokens != 0)[..., None]).sum(1)), tokens)


def test_truth_is_not_handed_back_as_a_number() -> None:
    with pytest.raises(UnsupportedOperator, match=r"returns gt of torch\.bool, not of float32"):
        compile_model(Function(lambda x: x > 0), torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x.sum(1, dtype=torch.int8) * 0.5, r"torch\.int8 are not supported"),
        (lambda x: x.softmax(1, dtype=torch.float16) * x, r"torch\.float16 are not supported"),
        (lambda x: x.mean(1, dtype=torch.bfloat16) * x[:, 0], r"torch\.bfloat16 are not supported"),
        (lambda x: x.sum(1, dtype=torch.bool) * 0.5, r"use any\(\)"),
    ],
)
def test_results_of_other_types_are_refused(function: Callable[..., object], said: str) -> None:
    with pytest.raises(UnsupportedOperator, match=said):
        compile_model(Function(function), torch.randn(1, 3, 4))


def test_bits_of_whole_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="bits of whole numbers"):
        compile_model(Function(lambda x: (x & x.flip(1)) * 0.5), torch.zeros(1, 3, dtype=torch.int64))


def test_an_image_without_batch_is_refused_by_its_shape() -> None:
    with pytest.raises(UnsupportedOperator, match=r"shape \[1, 8, 8\], not \[N, C, H, W\]"):
        compile_model(nn.AdaptiveAvgPool2d(2), torch.zeros(1, 8, 8))


def test_a_number_that_names_no_row_gives_nan() -> None:
    compiled = compile_model(nn.Embedding(5, 4), torch.zeros(1, 3, dtype=torch.int64))
    result = compiled(torch.tensor([[0, 5, -1]]))
    assert torch.isfinite(result[0, 0]).all()
    assert torch.isnan(result[0, 1:]).all()


def test_sums_of_exponentials_of_infinities_are_those_of_torch() -> None:
    x = torch.tensor([[1.0, 2.0, -math.inf], [-math.inf] * 3, [0.0, math.inf, 1.0], [3e38, -3e38, 3e38]])[None]
    found = compile_model(Function(lambda x: x.logsumexp(2)), torch.zeros(1, 4, 3))(x)
    torch.testing.assert_close(found, x.logsumexp(2))


def test_several_inputs_of_several_ranks() -> None:
    torch.manual_seed(0)
    function = Function(lambda image, vector, tokens: (image * vector[:, :, None, None], tokens.mean(1) + vector))
    compare(function, torch.randn(2, 5, 4, 4), torch.randn(2, 5), torch.randn(2, 3, 5))


@pytest.mark.parametrize("target", ["x86_sse", "x86_avx2", "x86_avx512"])
@pytest.mark.parametrize("name", ["encoder", "gru, two layers, both ways", "lstm", "matmul"])
def test_sequences_at_every_vector_width(name: str, target: str) -> None:
    if find_target(target).vector > local_target().vector:
        pytest.skip(f"this processor cannot run {target}")
    torch.manual_seed(0)
    compare(SEQUENCES[name], torch.randn(2, *TOKENS), device=target)
