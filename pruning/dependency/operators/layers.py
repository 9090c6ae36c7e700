"""Convolutions, linear layers and embeddings: they add up weighted inputs, or look units up."""

import torch
from torch import Tensor, nn

from pruning.dependency.call import Call, CannotFollow, rule
from pruning.dependency.graph import module_of
from pruning.dependency.record import Attribute, Layer
from pruning.dependency.values import Value

aten = torch.ops.aten


@rule(
    *(getattr(aten, f"conv{n}d").default for n in (1, 2, 3)),
    *(getattr(aten, f"conv{n}d").padding for n in (1, 2, 3)),
)
def convolution(call: Call) -> Value:
    return _layer(call, call["groups"], spatial=_weight(call).dim() - 2, transposed=False)


@rule(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
def transposed_convolution(call: Call) -> Value:
    return _layer(call, call["groups"], spatial=_weight(call).dim() - 2, transposed=True)


@rule(aten.linear.default)
def linear(call: Call) -> Value:
    return _layer(call, groups=1, spatial=0, transposed=False)


@rule(aten.embedding.default)
def embedding(call: Call) -> Value:
    path, weight = call.weight(), _weight(call)
    ids = call.record.fresh(weight.shape[1])
    call.record.makers.append(ids)
    call.record.use(path, None, ids[None], silent=True)
    for owner in call.record.graph.owners(path):
        if isinstance(call.record.graph.model.get_submodule(owner), nn.Embedding):
            call.record.attributes.append(Attribute(owner, "embedding_dim", ids))
    silent = torch.where((weight == 0).all(0), 0.0, torch.nan).double()
    return call.record.along(call.shape, len(call.shape) - 1, ids, silent)


def _weight(call: Call) -> Tensor:
    weight = call.read(call.weight())
    assert weight is not None
    return weight


def _layer(call: Call, groups: int, spatial: int, transposed: bool) -> Value:
    record, x, weight = call.record, call.value("input"), _weight(call)
    path, bias = call.weight(), call.tensor("bias")
    kernels = weight.reshape(groups, -1, *weight.shape[1:])
    kernels = kernels.transpose(1, 2) if transposed else kernels  # [groups, O / groups, I / groups, ...]
    axis = x.rank - spatial - 1
    if axis < 0:
        raise CannotFollow("its input has no axis of channels")
    inputs, constant = record.line(x, axis)
    outputs = record.fresh(kernels.shape[0] * kernels.shape[1])
    reads = (kernels != 0).flatten(3).any(3) if spatial else kernels != 0
    offset = call.read(bias)
    made = torch.where(
        (reads & (constant.reshape(groups, 1, -1) != 0)).any(2),
        torch.nan,
        torch.zeros(1).double() if offset is None else offset.double().reshape(groups, -1),
    )
    layer = Layer(
        name=_name(call, path),
        tensor=path,
        inputs=inputs.reshape(groups, -1),
        outputs=outputs.reshape(groups, -1),
        constant=constant.reshape(groups, -1),
        made=made,
        reads=reads,
    )
    if layer.depthwise:
        record.couple(layer.outputs, layer.inputs)
        record.use(path, layer.inputs.reshape(1, -1) if transposed else outputs[None], silent=True)
    else:
        record.makers.append(outputs)
        for ids in (layer.inputs, layer.outputs) if groups > 1 else ():
            record.balances.append(ids)
        record.use(path, *((layer.inputs, layer.outputs) if transposed else (layer.outputs, layer.inputs)))
    if bias is not None:
        record.use(bias, outputs[None], silent=True)
    record.layers.append(layer)
    _attributes(call, path, layer)
    return record.along(call.shape, len(call.shape) - spatial - 1, outputs, made.flatten())


def _name(call: Call, path: str) -> str:
    """The module that is called, where it holds the weight, else the one in the weight's path."""
    module = module_of(call.node)
    return module if module in call.record.graph.owners(path) else path.rpartition(".")[0]


def _attributes(call: Call, path: str, layer: Layer) -> None:
    record = call.record
    inputs, outputs = layer.inputs.flatten(), layer.outputs.flatten()
    for owner in record.graph.owners(path):
        module = record.graph.model.get_submodule(owner)
        if isinstance(module, nn.Linear):
            record.attributes += [Attribute(owner, "in_features", inputs), Attribute(owner, "out_features", outputs)]
        elif isinstance(module, nn.modules.conv._ConvNd):
            record.attributes += [Attribute(owner, "in_channels", inputs), Attribute(owner, "out_channels", outputs)]
            if layer.depthwise:
                record.attributes.append(Attribute(owner, "groups", inputs))
