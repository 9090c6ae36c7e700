"""Takes channels out of a model's tensors."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.dependency.channels import Trace


@dataclass(frozen=True)
class Cut:
    """What stays of one module: bool masks over its outputs and inputs (equal for a batch norm)."""

    name: str
    outputs: Tensor
    inputs: Tensor

    def apply(self, model: nn.Module) -> None:
        """Slices the module's tensors in place; parameters stay the same objects, their gradients are dropped."""
        module = model.get_submodule(self.name)
        kept = int(self.outputs.sum())
        if isinstance(module, nn.Conv2d):
            module.weight.data = self._kernels(module)
            module.groups = kept // (module.out_channels // module.groups) if _depthwise(module) else module.groups
            module.in_channels, module.out_channels = int(self.inputs.sum()), kept
            _slice(module.bias, self.outputs)
        elif isinstance(module, nn.Linear):
            module.weight.data = module.weight.data[self.outputs][:, self.inputs]
            module.in_features, module.out_features = int(self.inputs.sum()), kept
            _slice(module.bias, self.outputs)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.num_features = kept
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                _slice(tensor, self.outputs)
        for parameter in module.parameters(recurse=False):
            parameter.grad = None

    def _kernels(self, module: nn.Conv2d) -> Tensor:
        """Weight [kept O, kept I / groups, kh, kw]; every group of the convolution loses its own inputs."""
        weight = module.weight.data
        if _depthwise(module):
            return weight[self.outputs]
        parts = (tensor.chunk(module.groups) for tensor in (weight, self.outputs, self.inputs))
        return torch.cat([part[outputs][:, inputs] for part, outputs, inputs in zip(*parts, strict=True)])


def _depthwise(module: nn.Conv2d) -> bool:
    return module.groups > 1 and module.groups == module.in_channels


def _slice(tensor: Tensor | None, kept: Tensor) -> None:
    if tensor is not None:
        tensor.data = tensor.data[kept]


def cuts(trace: Trace, removed: Tensor) -> tuple[Cut, ...]:
    """The modules that lose channels, given the coupled sets (bool [trace.size]) that go."""
    found: dict[str, Cut] = {}
    for layer in trace.layers:
        outputs, inputs = (~removed[trace.sets(ids)] for ids in (layer.outputs.ids, layer.inputs.ids))
        found[layer.name] = Cut(layer.name, outputs, inputs)
    for norm in trace.norms:
        kept = ~removed[trace.sets(norm.ids)]
        found[norm.name] = Cut(norm.name, kept, kept)
    return tuple(cut for cut in found.values() if not (cut.outputs.all() and cut.inputs.all()))
