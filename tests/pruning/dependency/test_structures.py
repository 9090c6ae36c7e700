"""Each way in which channels can be coupled, as a small module: exact, or refused by name."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning import shrink
from pruning.errors import ShrinkRefused

C1 = lambda i, o, **k: nn.Conv2d(i, o, 1, **k)  # noqa: E731


class Net(nn.Module):
    """Layers by name, and a forward pass given as a function of the module and its input."""

    def __init__(self, run: Callable[["Net", Tensor], object], **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> object:
        return self.run(self, x)


def silence(model: nn.Module, **gone: list[int]) -> None:
    """Zeroes filters (and all that belongs to them) of the named modules; `x__in` means input channels of x."""
    with torch.no_grad():
        for name, indices in gone.items():
            layer = model.get_submodule(name.removesuffix("__in"))
            if name.endswith("__in") or isinstance(layer, nn.Embedding):
                layer.weight[:, indices] = 0
            elif isinstance(layer, nn.ConvTranspose2d):
                layer.weight[:, indices] = 0
                layer.bias[indices] = 0
            else:
                for key, tensor in (*layer.named_parameters(), *layer.named_buffers()):
                    if tensor.dim() and key != "running_var":
                        tensor[indices] = 0


def values(result: object) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [tensor for part in result for tensor in values(part)]


def assert_same(model: nn.Module, masked: nn.Module, shape: tuple[int, ...]) -> None:
    for batch in (2, 5):
        x = torch.randn(batch, *shape[1:])
        with torch.no_grad():
            torch.testing.assert_close(values(model(x)), values(masked(x)), rtol=1e-5, atol=1e-5)


def heads(model: Net, x: Tensor) -> Tensor:
    """Attention whose head width comes from the layer itself."""
    q, k, v = (layer(x).unflatten(2, (2, -1)).transpose(1, 2) for layer in (model.q, model.k, model.v))
    return model.out(((q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2))


def shuffled(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Excite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = C1(8, 4), C1(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


IMAGE, SEQUENCE = (2, 3, 8, 8), (2, 7, 6)


def shared(model: Net) -> Net:
    model.b.weight = model.a.weight
    return model


# name -> (module, what is silent, filters that go)
EXACT: dict[str, tuple[Callable[[], Net], dict[str, list[int]], dict[str, int]]] = {
    "residual add": (
        lambda: Net(lambda m, x: m.c(m.a(x) + m.b(x)), a=C1(3, 8), b=C1(3, 8), c=C1(8, 2)),
        {"a": [1, 2], "b": [2, 3]},
        {"a": 1, "b": 1},
    ),
    "in-place add": (
        lambda: Net(lambda m, x: m.c(m.a(x).add_(m.b(x)).relu_()), a=C1(3, 8), b=C1(3, 8), c=C1(8, 2)),
        {"a": [1, 2], "b": [2, 3]},
        {"a": 1, "b": 1},
    ),
    "concat": (
        lambda: Net(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)), a=C1(3, 8), b=C1(3, 4), c=C1(12, 2)),
        {"a": [0, 7], "b": [3]},
        {"a": 2, "b": 1},
    ),
    "concat twice, added": (
        lambda: Net(
            lambda m, x: m.d(torch.cat([m.a(x), m.b(x)], 1) + m.c(x)), a=C1(3, 4), b=C1(3, 4), c=C1(3, 8), d=C1(8, 2)
        ),
        {"a": [0, 1], "b": [3], "c": [1, 7]},
        {"a": 1, "b": 1, "c": 2},
    ),
    "concat of a value with itself": (
        lambda: Net(lambda m, x: m.c(torch.cat([y := m.a(x), y], 1)), a=C1(3, 8), c=C1(16, 2)),
        {"a": [3]},
        {"a": 1},
    ),
    "chunk": (
        lambda: Net(lambda m, x: m.b((y := m.a(x).chunk(2, 1))[0]) + m.c(y[1]), a=C1(3, 8), b=C1(4, 2), c=C1(4, 2)),
        {"a": [0, 1, 6]},
        {"a": 2},
    ),
    "split by the width there is": (
        lambda: Net(lambda m, x: m.b((y := m.a(x)).split(y.shape[1] // 2, 1)[1]), a=C1(3, 8), b=C1(4, 2)),
        {"a": [0, 1, 6]},
        {"a": 2},
    ),
    "slice that counts from the front": (
        lambda: Net(lambda m, x: m.b(m.a(x)[:, 3:]), a=C1(3, 8), b=C1(5, 2)),
        {"a": [1, 4, 6]},
        {"a": 2},
    ),
    "slice that counts from the end": (
        lambda: Net(lambda m, x: m.b(m.a(x)[:, :-3]), a=C1(3, 8), b=C1(5, 2)),
        {"a": [1, 4, 6]},
        {"a": 2},
    ),
    "depthwise": (
        lambda: Net(
            lambda m, x: m.c(torch.relu(m.b(torch.relu(m.a(x))))),
            a=C1(3, 8),
            b=nn.Conv2d(8, 8, 3, groups=8),
            c=C1(8, 2),
        ),
        {"a": [1, 2], "b": [1, 2]},
        {"a": 2, "b": 2},
    ),
    "depthwise multiplier": (
        lambda: Net(lambda m, x: m.c(m.b(m.a(x))), a=C1(3, 4), b=nn.Conv2d(4, 8, 3, groups=4), c=C1(8, 2)),
        {"a": [1], "b": [2, 3]},
        {"a": 1, "b": 2},
    ),
    "grouped convolution": (
        lambda: Net(lambda m, x: m.c(m.b(m.a(x))), a=C1(3, 8), b=C1(8, 6, groups=2), c=C1(6, 2)),
        {"a": [0, 1, 5], "b": [0, 4, 5]},
        {"a": 2, "b": 2},
    ),
    "transposed convolution": (
        lambda: Net(lambda m, x: m.c(m.b(m.a(x))), a=C1(3, 8), b=nn.ConvTranspose2d(8, 6, 2, 2), c=C1(6, 2)),
        {"a": [1], "b": [0, 4]},
        {"a": 1, "b": 2},
    ),
    "depthwise transposed convolution": (
        lambda: Net(lambda m, x: m.c(m.b(m.a(x))), a=C1(3, 8), b=nn.ConvTranspose2d(8, 8, 2, 2, groups=8), c=C1(8, 2)),
        {"c__in": [1, 4]},
        {"a": 2, "b": 2},
    ),
    "grouped transposed convolution": (
        lambda: Net(lambda m, x: m.c(m.b(m.a(x))), a=C1(3, 8), b=nn.ConvTranspose2d(8, 6, 2, 2, groups=2), c=C1(6, 2)),
        {"a": [1, 7], "c__in": [0, 5]},
        {"a": 2, "b": 2},
    ),
    "channel shuffle": (
        lambda: Net(lambda m, x: m.c(shuffled(m.a(x), 2)), a=C1(3, 8), c=C1(8, 2)),
        {"a": [1, 2, 5]},
        {"a": 2},
    ),
    "channel shuffle module": (
        lambda: Net(lambda m, x: m.c(m.s(m.a(x))), a=C1(3, 8), s=nn.ChannelShuffle(2), c=C1(8, 2)),
        {"a": [1, 2, 5]},
        {"a": 2},
    ),
    "pixel shuffle": (
        lambda: Net(lambda m, x: m.c(F.pixel_shuffle(m.a(x), 2)), a=C1(3, 16), c=C1(4, 2)),
        {"a": [0, 4, 5, 6, 7]},
        {"a": 4},
    ),
    "pixel shuffle by hand": (
        lambda: Net(
            lambda m, x: m.c(m.a(x).view(len(x), -1, 2, 2, 8, 8).permute(0, 1, 4, 2, 5, 3).reshape(len(x), -1, 16, 16)),
            a=C1(3, 16),
            c=C1(4, 2),
        ),
        {"a": [0, 4, 5, 6, 7]},
        {"a": 4},
    ),
    "pixel unshuffle": (
        lambda: Net(lambda m, x: m.c(F.pixel_unshuffle(m.a(x), 2)), a=C1(3, 4), c=C1(16, 2)),
        {"a": [2]},
        {"a": 1},
    ),
    "squeeze-excite": (
        lambda: Net(lambda m, x: m.c(m.se(m.a(x))), a=C1(3, 8), se=Excite(), c=C1(8, 2)),
        {"a": [1, 2], "se.fc1": [0]},
        {"a": 2, "se.fc1": 1, "se.fc2": 2},
    ),
    "linear behind a flatten": (
        lambda: Net(lambda m, x: m.c(torch.relu(m.a(x)).flatten(1)), a=C1(3, 8), c=nn.Linear(512, 2)),
        {"a": [0, 3]},
        {"a": 2},
    ),
    "flatten and back": (
        lambda: Net(lambda m, x: m.c(m.a(x).flatten(1).view(len(x), -1, 8, 8)), a=C1(3, 8), c=C1(8, 2)),
        {"a": [0, 3]},
        {"a": 2},
    ),
    "linear over a trailing axis": (
        lambda: Net(
            lambda m, x: m.c(m.b(m.a(x).permute(0, 2, 3, 1))), a=C1(3, 8), b=nn.Linear(8, 6), c=nn.Linear(6, 2)
        ),
        {"a": [0], "b": [1, 2]},
        {"a": 1, "b": 2},
    ),
    "broadcast multiply": (
        lambda: Net(lambda m, x: m.c(m.a(x) * m.b(x).sigmoid()), a=C1(3, 8), b=C1(3, 1), c=C1(8, 2)),
        {"a": [5]},
        {"a": 1},
    ),
    "broadcast multiply by a map expanded to all channels": (
        lambda: Net(lambda m, x: m.c((y := m.a(x)) * m.b(x).expand_as(y)), a=C1(3, 8), b=C1(3, 1), c=C1(8, 2)),
        {"a": [5]},
        {"a": 1},
    ),
    "gated linear unit": (
        lambda: Net(lambda m, x: m.c(F.glu(m.a(x), 1)), a=C1(3, 8), c=C1(4, 2)),
        {"a": [1]},
        {"a": 2},
    ),
    "bare parameters": (
        lambda: Net(
            lambda m, x: m.c(m.a(x) * m.gain + m.shift),
            a=C1(3, 8),
            gain=nn.Parameter(torch.randn(8, 1, 1)),
            shift=nn.Parameter(torch.randn(1, 8, 1, 1) * (torch.arange(8) != 3).view(1, 8, 1, 1)),
            c=C1(8, 2),
        ),
        {"a": [3, 4]},
        {"a": 1},
    ),
    "position embedding and class token": (
        lambda: Net(
            lambda m, x: m.c(torch.cat([m.token.expand(len(x), -1, -1), m.a(x).flatten(2).mT], 1) + m.position),
            a=C1(3, 8),
            token=nn.Parameter(torch.randn(1, 1, 8)),
            position=nn.Parameter(torch.randn(1, 65, 8)),
            c=nn.Linear(8, 2),
        ),
        {"c__in": [3, 4]},
        {"a": 2},
    ),
    "module called twice": (
        lambda: Net(lambda m, x: m.c(m.b(torch.relu(m.b(m.a(x))))), a=C1(3, 8), b=C1(8, 8), c=C1(8, 2)),
        {"a": [1, 2], "b": [2, 3]},
        {"a": 1, "b": 1},
    ),
    "two modules share a weight": (
        lambda: shared(
            Net(lambda m, x: m.c(m.b(torch.relu(m.a(m.s(x))))), s=C1(3, 8), a=C1(8, 8), b=C1(8, 8), c=C1(8, 2))
        ),
        {"s": [1, 2], "a": [2, 3], "b": [2, 3]},
        {"s": 1, "a": 1, "b": 1},
    ),
    "comparison, where and fill": (
        lambda: Net(
            lambda m, x: m.c(
                torch.where(x[:, :1] > 0, y := m.a(x), torch.zeros_like(y)).masked_fill(x[:, 1:2] > 1, 0)
                * (y > 0).to(x)
            ),
            a=C1(3, 8),
            c=C1(8, 2),
        ),
        {"a": [1]},
        {"a": 1},
    ),
    "batch norm": (
        lambda: Net(lambda m, x: m.c(m.n(m.a(x))), a=C1(3, 8), n=nn.BatchNorm2d(8), c=C1(8, 2)),
        {"a": [0], "n": [0, 2]},
        {"a": 2},
    ),
    "batch norm without statistics or weights": (
        lambda: Net(
            lambda m, x: m.c(m.n(m.a(x))),
            a=C1(3, 8),
            n=nn.BatchNorm2d(8, affine=False, track_running_stats=False),
            c=C1(8, 2),
        ),
        {"c__in": [0, 2]},
        {"a": 2},
    ),
    "instance norm": (
        lambda: Net(lambda m, x: m.c(m.n(m.a(x))), a=C1(3, 8), n=nn.InstanceNorm2d(8, affine=True), c=C1(8, 2)),
        {"a": [0, 1], "n": [1]},
        {"a": 2},
    ),
    "group norm loses whole groups": (
        lambda: Net(lambda m, x: m.c(m.n(m.a(x))), a=C1(3, 8), n=nn.GroupNorm(4, 8), c=C1(8, 2)),
        {"a": [0, 1, 2, 4, 5], "n": [0, 1, 2, 4, 5]},
        {"a": 4},
    ),
    "layer norm over positions only": (
        lambda: Net(lambda m, x: m.c(m.n(m.a(x))), a=C1(3, 8), n=nn.LayerNorm(8), c=C1(8, 2)),
        {"c__in": [4]},
        {"a": 1},
    ),
    "prelu": (
        lambda: Net(lambda m, x: m.c(m.n(m.a(x))), a=C1(3, 8), n=nn.PReLU(8), c=C1(8, 2)),
        {"a": [0, 2]},
        {"a": 2},
    ),
    "several outputs": (
        lambda: Net(
            lambda m, x: (m.b(y := torch.relu(m.a(x))), [m.c(y), y.mean((2, 3))[:, :0]]),
            a=C1(3, 8),
            b=C1(8, 2),
            c=C1(8, 3),
        ),
        {},
        {},
    ),
    "two heads": (
        lambda: Net(
            lambda m, x: {"b": m.b(y := torch.relu(m.a(x))), "c": m.c(y)}.values().__iter__().__next__() + m.c(y).sum(),
            a=C1(3, 8),
            b=C1(8, 2),
            c=C1(8, 3),
        ),
        {"a": [1], "b__in": [2, 3], "c__in": [3, 4]},
        {"a": 2},
    ),
    "padded shortcut": (
        lambda: Net(
            lambda m, x: m.c(m.b(y := m.a(x)) + F.pad(y, (0, 0, 0, 0, 0, 2))), a=C1(3, 6), b=C1(6, 8), c=C1(8, 2)
        ),
        {"a": [0, 1], "b": [1, 2]},
        {"a": 1, "b": 1},
    ),
    "upsampling": (
        lambda: Net(lambda m, x: m.c(F.interpolate(m.a(x), scale_factor=2)), a=C1(3, 8), c=C1(8, 2)),
        {"a": [1]},
        {"a": 1},
    ),
    "window partition": (
        lambda: Net(
            lambda m, x: m.c(m.a(x).view(len(x), -1, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).flatten(3, 4)),
            a=C1(3, 8),
            c=nn.Linear(8, 2),
        ),
        {"a": [1]},
        {"a": 1},
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str) -> None:
    torch.manual_seed(0)
    build, gone, removed = EXACT[name]
    model = build().eval()
    silence(model, **gone)
    masked = copy.deepcopy(model)
    report = shrink(model, torch.randn(IMAGE))
    assert report.removed == removed
    assert_same(model, masked, IMAGE)


TOKENS: dict[str, tuple[Callable[[], Net], dict[str, list[int]], dict[str, int]]] = {
    "attention loses the same channels of every head": (
        lambda: Net(heads, q=nn.Linear(6, 8), k=nn.Linear(6, 8), v=nn.Linear(6, 8), out=nn.Linear(8, 6)),
        {"q": [1, 5], "k": [0, 1, 4, 5], "v": [2, 6]},
        {"q": 4, "k": 4, "v": 2},
    ),
    "feed-forward": (
        lambda: Net(lambda m, x: x + m.b(F.gelu(m.a(x))), a=nn.Linear(6, 16), b=nn.Linear(16, 6)),
        {"a": [1, 2, 3]},
        {"a": 3},
    ),
    "transformer layer's feed-forward": (
        lambda: Net(lambda m, x: m.t(x), t=nn.TransformerEncoderLayer(6, 2, 16, batch_first=True)),
        {"t.linear1": [1, 2, 3]},
        {"t.linear1": 3},
    ),
    "what a GRU reads": (
        lambda: Net(lambda m, x: m.c(m.g(m.a(x))[0]), a=nn.Linear(6, 8), g=nn.GRU(8, 5, 2), c=nn.Linear(5, 2)),
        {"a": [1, 2]},
        {"a": 2},
    ),
    "what an LSTM reads, both ways": (
        lambda: Net(
            lambda m, x: m.c(m.g(m.a(x))[0]),
            a=nn.Linear(6, 8),
            g=nn.LSTM(8, 5, bidirectional=True, batch_first=True),
            c=nn.Linear(10, 2),
        ),
        {"a": [1, 2]},
        {"a": 2},
    ),
    "convolution over time": (
        lambda: Net(lambda m, x: m.c(torch.relu(m.a(x))), a=nn.Conv1d(7, 8, 3), c=nn.Conv1d(8, 2, 1)),
        {"a": [1, 2]},
        {"a": 2},
    ),
}


@pytest.mark.parametrize("name", TOKENS)
def test_exact_on_sequences(name: str) -> None:
    torch.manual_seed(0)
    build, gone, removed = TOKENS[name]
    model = build().eval()
    silence(model, **gone)
    masked = copy.deepcopy(model)
    assert shrink(model, torch.randn(SEQUENCE)).removed == removed
    assert_same(model, masked, SEQUENCE)


def test_tied_embedding() -> None:
    """The table of words is also the classifier: units go from both, words stay."""
    torch.manual_seed(0)
    model = Net(
        lambda m, x: m.c(m.b(torch.relu(m.a(m.e(x))))), e=nn.Embedding(9, 8), a=nn.Linear(8, 6), b=nn.Linear(6, 8)
    )
    model.c = nn.Linear(8, 9, bias=False)
    model.c.weight = model.e.weight
    silence(model.eval(), e=[2, 5], a=[1])
    masked, words = copy.deepcopy(model), torch.randint(9, (2, 7))
    report = shrink(model, words)
    assert report.removed == {"a": 1, "b": 2}
    assert model.c.weight is model.e.weight
    assert (model.e.embedding_dim, model.c.in_features, tuple(model.c.weight.shape)) == (6, 6, (9, 6))
    torch.testing.assert_close(model(words[:1]), masked(words[:1]), rtol=1e-5, atol=1e-5)


# name -> (module, what is silent, what the refusal says)
REFUSED: dict[str, tuple[Callable[[], Net], dict[str, list[int]], str]] = {
    "layer norm over channels": (
        lambda: Net(
            lambda m, x: m.c(m.n(m.a(x).permute(0, 2, 3, 1))), a=C1(3, 8), n=nn.LayerNorm(8), c=nn.Linear(8, 2)
        ),
        {"a": [1]},
        r"layer_norm.*module 'n'.*normalises over the channels",
    ),
    "mean over channels": (
        lambda: Net(lambda m, x: m.c(m.a(x).mean(1, keepdim=True)), a=C1(3, 8), c=C1(1, 2)),
        {"a": [1]},
        r"aten.mean.*node 'mean'.*over the channels",
    ),
    "split by a number": (
        lambda: Net(lambda m, x: m.b(m.a(x).split(4, 1)[1]), a=C1(3, 8), b=C1(4, 2)),
        {"a": [0, 6]},
        r"conv2d.*module 'b'.*as a number for aten.split",
    ),
    "view by a number": (
        lambda: Net(lambda m, x: m.c(m.a(x).view(len(x), 512)), a=C1(3, 8), c=nn.Linear(512, 2)),
        {"a": [0]},
        r"aten.view.*node 'view'.*as a number",
    ),
    "scale of attention": (
        lambda: Net(
            lambda m, x: m.c(F.scaled_dot_product_attention(y := m.a(x).flatten(2).mT, y, y)),
            a=C1(3, 8),
            c=nn.Linear(8, 2),
        ),
        {"a": [0]},
        r"scaled_dot_product_attention.*scale depends",
    ),
    "einsum": (
        lambda: Net(lambda m, x: m.c(torch.einsum("nchw->nhwc", m.a(x))), a=C1(3, 8), c=nn.Linear(8, 2)),
        {"a": [0]},
        "aten.einsum",
    ),
    "product with a bare matrix": (
        lambda: Net(
            lambda m, x: m.c(m.a(x).permute(0, 2, 3, 1) @ m.w),
            a=C1(3, 8),
            w=nn.Parameter(torch.randn(8, 8)),
            c=nn.Linear(8, 2),
        ),
        {"a": [0]},
        "aten.matmul",
    ),
    "writing into a part": (
        lambda: Net(overwriting, a=C1(3, 8), c=C1(8, 2)),
        {"a": [0, 4]},
        r"aten.mul_.*writes into a part of 'conv2d'",
    ),
    "softmax over channels": (
        lambda: Net(lambda m, x: m.c(m.a(x).softmax(1)), a=C1(3, 8), c=C1(8, 2)),
        {"a": [0, 4]},
        "softmax.*over the channels",
    ),
    "computed weights": (
        lambda: Net(
            lambda m, x: m.c(F.conv2d(m.a(x), m.w * 2)), a=C1(3, 8), w=nn.Parameter(torch.randn(8, 8, 1, 1)), c=C1(8, 2)
        ),
        {"a": [0]},
        "weight is computed",
    ),
    "batch and channels mixed": (
        lambda: Net(lambda m, x: m.c(m.a(x).reshape(len(x) * 2, -1, 8, 8)), a=C1(3, 8), c=C1(4, 2)),
        {"a": [0, 4]},
        "mixes an axis of channels",
    ),
}


def overwriting(model: Net, x: Tensor) -> Tensor:
    y = model.a(x)
    y[:, 2:] *= 2
    return model.c(y)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    torch.manual_seed(0)
    build, gone, text = REFUSED[name]
    model = build().eval()
    silence(model, **gone)
    before, modules = copy.deepcopy(model.state_dict()), str(model)
    with pytest.raises(ShrinkRefused, match=text):
        shrink(model, torch.randn(IMAGE))
    assert str(model) == modules
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
