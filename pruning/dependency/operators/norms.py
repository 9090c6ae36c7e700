"""Normalisations."""

import torch
from torch import Tensor, nn

from pruning.dependency.call import Call, CannotFollow, rule
from pruning.dependency.graph import module_of
from pruning.dependency.record import Attribute
from pruning.dependency.values import Value, only_zeros, unknown

aten = torch.ops.aten


@rule(aten.batch_norm.default)
def batch_norm(call: Call) -> Value:
    x = call.value("input")
    ids, constant = call.record.line(x, 1)
    _use(call, ids, "num_features", nn.modules.batchnorm._NormBase)
    if call["training"]:  # a constant channel is its own mean
        return _scaled(call, x, ids, constant - constant)
    return _scaled(call, x, ids, _running(call, constant))


@rule(aten.instance_norm.default)
def instance_norm(call: Call) -> Value:
    x = call.value("input")
    ids, constant = call.record.line(x, 1)
    _use(call, ids, "num_features", nn.modules.batchnorm._NormBase)
    running = call["running_mean"] is not None and not call["use_input_stats"]
    return _scaled(call, x, ids, _running(call, constant) if running else only_zeros(constant))


@rule(aten.group_norm.default)
def group_norm(call: Call) -> Value:
    """The channels that are normalised together go together, and one group fewer is left."""
    x, groups = call.value("input"), call["num_groups"]
    ids, constant = call.record.line(x, 1)
    together = ids.reshape(groups, -1)
    call.record.couple(together, together[:, :1])
    _use(call, ids, "num_channels", nn.GroupNorm)
    for owner in _modules(call, nn.GroupNorm):
        call.record.attributes.append(Attribute(owner, "num_groups", ids, together.shape[1]))
    silent = (constant.reshape(groups, -1) == 0).all(1, keepdim=True).expand(groups, together.shape[1]).flatten()
    return _scaled(call, x, ids, torch.where(silent, 0.0, torch.nan))


@rule(aten.layer_norm.default, aten.rms_norm.default)
def layer_norm(call: Call) -> Value:
    x = call.value("input")
    if any(x.varies(x.rank - 1 - i) for i in range(len(call["normalized_shape"]))):
        raise CannotFollow("it normalises over the channels, so the others would change with their number")
    for name in ("weight", "bias"):
        if name in call.arguments and (path := call.tensor(name)) is not None:
            call.record.use(path)
    return Value(x.shape, x.ids, unknown(x.shape))


def _use(call: Call, ids: Tensor, attribute: str, kind: type[nn.Module]) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        if name in call.arguments and (path := call.tensor(name)) is not None:
            call.record.use(path, ids[None], silent=name != "running_var")
    call.record.attributes += [Attribute(owner, attribute, ids) for owner in _modules(call, kind)]


def _modules(call: Call, kind: type[nn.Module]) -> list[str]:
    """Names of the modules of this kind whose call this is."""
    graph = call.record.graph
    paths = [call.tensor(name) for name in ("weight", "running_mean") if name in call.arguments]
    owners = {owner for path in paths if path is not None for owner in graph.owners(path)} or {module_of(call.node)}
    return sorted(owner for owner in owners if isinstance(graph.model.get_submodule(owner), kind))


def _running(call: Call, constant: Tensor) -> Tensor:
    mean, variance = (call.read(call.tensor(name)) for name in ("running_mean", "running_var"))
    if mean is None or variance is None:
        raise CannotFollow("it has no running statistics")
    normal: Tensor = (constant - mean.double()) / (variance.double() + call["eps"]).sqrt()
    return normal


def _scaled(call: Call, x: Value, ids: Tensor, normal: Tensor) -> Value:
    gamma, beta = (call.read(call.tensor(name)) for name in ("weight", "bias"))
    if gamma is not None:
        gamma = gamma.double()
        normal = torch.where(gamma == 0, 0.0, gamma * normal)
    if beta is not None:
        normal = normal + beta.double()
    return call.record.along(x.shape, 1, ids, normal)
