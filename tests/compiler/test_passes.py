"""Each pass leaves what the graph computes unchanged."""

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compiler.capture import capture
from compiler.graph import Activation, Add, BatchNorm, Conv, Gather, GlobalPool, Graph, Linear, Node, Pool
from compiler.passes import PASSES, drop_dead_code, fold_batch_norm, fuse_epilogues

ACTIVATIONS = {"relu": F.relu, "relu6": F.relu6, "hard_swish": F.hardswish, "hard_sigmoid": F.hardsigmoid}


def evaluate(graph: Graph, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """The graph by torch's functions, an image a time: tensors are [1, C, H, W]."""
    constants = {name: torch.from_numpy(array) for name, array in graph.constants.items()}
    values = dict(inputs)
    for node in graph.nodes:
        x = values[node.inputs[0]]
        op = node.op
        epilogue: tuple[str, ...] = ()
        match op:
            case Conv():
                bias = None if op.bias is None else constants[op.bias]
                y = F.conv2d(x, constants[op.weight], bias, op.stride, op.padding, op.dilation, op.groups)
                epilogue = op.epilogue
            case BatchNorm():
                y = x * constants[op.scale].view(-1, 1, 1) + constants[op.shift].view(-1, 1, 1)
            case Activation():
                y = ACTIVATIONS[op.kind](x)
            case Add():
                y, epilogue = x + values[node.inputs[1]], op.epilogue
            case Pool(kind="max"):
                y = F.max_pool2d(x, op.kernel, op.stride, op.padding)
            case Pool():
                y = F.avg_pool2d(x, op.kernel, op.stride, op.padding, count_include_pad=op.count_padding)
            case GlobalPool():
                y = x.mean((2, 3), keepdim=True)
            case Gather():
                flat = torch.cat([*(values[name].flatten() for name in node.inputs), torch.tensor([op.fill])])
                y = flat[torch.from_numpy(graph.indices[op.index]).long()][None]
            case Linear():
                bias = None if op.bias is None else constants[op.bias]
                y = F.linear(x.flatten(1), constants[op.weight], bias)[..., None, None]
            case _:
                raise AssertionError(op)
        for part in epilogue:
            y = y + values[node.inputs[1]] if part == "add" else ACTIVATIONS[part](y)
        assert tuple(y.shape[1:]) == node.shape
        values[node.name] = y
    return [values[name] for name in graph.outputs]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(6)
        self.first = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(8 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.before(x))
        x = F.hardswish(self.second(x) + x)
        return self.classifier(torch.flatten(self.pool(x), 1))


@pytest.fixture
def graph() -> Graph:
    torch.manual_seed(0)
    model = Residual()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight)
    return capture(model, (torch.randn(1, 6, 6, 6),))


@pytest.mark.parametrize("transform", PASSES)
def test_a_pass_changes_no_result_and_not_its_argument(graph: Graph, transform) -> None:
    x = {"x": torch.randn(1, 6, 6, 6)}
    text = graph.dump()
    expected = evaluate(graph, x)[0]
    given = evaluate(transform(graph), x)[0]
    assert torch.allclose(given, expected, rtol=1e-5, atol=1e-5)
    assert graph.dump() == text


def test_all_passes_leave_only_fused_convolutions(graph: Graph) -> None:
    x = {"x": torch.randn(1, 6, 6, 6)}
    expected = evaluate(graph, x)[0]
    for transform in PASSES:
        graph = transform(graph)
    assert torch.allclose(evaluate(graph, x)[0], expected, rtol=1e-5, atol=1e-5)
    ops = [type(node.op).__name__ for node in graph.nodes]
    assert ops == ["Conv", "Conv", "Conv", "Pool", "Conv"]
    assert graph.nodes[2].op.epilogue == ("add", "hard_swish")


def test_a_tensor_with_two_readers_keeps_its_own_value() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.norm(y) + F.relu(y)

    torch.manual_seed(0)
    model = Twice().eval()
    nn.init.normal_(model.norm.running_mean)
    x = torch.randn(1, 3, 4, 4)
    graph = capture(model, (x,))
    for transform in (fold_batch_norm, fuse_epilogues):
        graph = transform(graph)
    assert torch.allclose(evaluate(graph, {"x": x})[0], model(x), atol=1e-6)


def test_dead_code_is_gone(graph: Graph) -> None:
    first = graph.nodes[1]
    unread = [
        Node("unread", Activation("relu"), (first.name,), first.shape),
        Node("after", Activation("relu"), ("unread",), first.shape),
    ]
    assert drop_dead_code(graph.rewrite([*graph.nodes, *unread])) == graph
