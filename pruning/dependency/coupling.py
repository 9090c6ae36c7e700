"""What filter and channel pruning of one layer means for the layers around it."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from pruning.dependency.graph import Inputs, as_inputs
from pruning.dependency.liveness import idle
from pruning.dependency.partition import partition
from pruning.dependency.record import NETWORK_INPUTS, NETWORK_OUTPUTS, Record
from pruning.dependency.tracing import follow
from pruning.dependency.trial import attempt
from pruning.dependency.values import Value
from pruning.errors import ShrinkRefused


class Coupling:
    """Answers about the layers of a traced network, by module name."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.order = list(dict.fromkeys(layer.name for layer in record.layers))
        """Layers in execution order."""
        self.size = record.size
        """The numbers of coupled sets are below it."""
        self.outputs = {layer.name: record.sets(layer.outputs.flatten()) for layer in record.layers}
        """Coupled set of every output channel of a layer."""
        self.inputs = {layer.name: record.sets(layer.inputs.flatten()) for layer in record.layers}
        """Coupled set of every input channel of a layer."""
        self.partition = partition(record)
        """Which coupled sets are decided together."""
        self._depthwise = {layer.name for layer in record.layers if layer.depthwise}
        self._pins = [(pin.reason, record.marked([pin.ids])) for pin in record.pins]

    def reads_network_input(self, name: str) -> bool:
        """Whether the layer is the first on its path."""
        return name in self.inputs and self._pinned(self.inputs[name], NETWORK_INPUTS)

    def makes_network_output(self, name: str) -> bool:
        """Whether the layer's outputs are returned by the network."""
        return name in self.outputs and self._pinned(self.outputs[name], NETWORK_OUTPUTS)

    def why_not_filters(self, name: str) -> str | None:
        """None, or the reason why output filters of the layer can never be removed."""
        return self._why_not(self.outputs.get(name))

    def why_not_channels(self, name: str) -> str | None:
        """None, or the reason why input channels of the layer can never be removed."""
        return self._why_not(self.inputs.get(name))

    def makers(self, sets: Tensor) -> list[str]:
        """Layers whose filters these coupled sets are, in execution order; depthwise ones only follow."""
        return self._meeting(self.outputs, sets)

    def readers(self, sets: Tensor) -> list[str]:
        """Layers that read these coupled sets, in execution order."""
        return self._meeting(self.inputs, sets)

    def silent(self, model: nn.Module, removed: Tensor) -> list[tuple[nn.Module, str, Tensor]]:
        """Tensors that have to be zero so that removed channels are constantly zero wherever they are read.

        Those are biases, gamma, beta and running mean of normalisations, depthwise kernels behind removed filters,
        and parameters that are added to or multiplied with them.

        Args:
            removed: bool [size], the coupled sets whose filters are pruned.

        Returns:
            (module, name of its tensor, bool mask of the entries that stay, along the tensor's first axes).
        """
        return self._silent(model, removed[self._record.sets(torch.arange(self.size))])

    def still_needed(self, masks: Mapping[str, Tensor], gone: Tensor) -> Tensor:
        """Bool [size]: those of the sets `gone` on which the outputs depend though the weights are masked.

        Biases and normalisations count as masked only behind filters that are: what other layers add is heard.
        """
        return gone & ~idle(self._masked(masks, gone))

    def obstacle(self, masks: Mapping[str, Tensor], gone: Tensor, example_inputs: Inputs) -> tuple[str, Tensor] | None:
        """None if the sets `gone` can be taken out of the masked network, which is tried on a copy.

        Otherwise the reason, and the sets (bool [size]) that meet what is in the way.
        """
        record = self._masked(masks, gone)
        try:
            attempt(record.graph.model, record, gone, as_inputs(example_inputs))
        except ShrinkRefused as refusal:
            around = self._around(refusal.node) & gone
            return str(refusal), around if bool(around.any()) else gone
        return None

    def _masked(self, masks: Mapping[str, Tensor], gone: Tensor) -> Record:
        model = copy.deepcopy(self._record.graph.model)
        for name, mask in masks.items():
            weight = model.get_submodule(name).weight
            assert isinstance(weight, Tensor)
            weight.data *= mask
        quiet = torch.zeros_like(gone)
        for layer in self._record.layers:
            outputs, follows = layer.outputs.flatten(), layer.depthwise and bool(quiet[layer.inputs].any())
            if layer.name in masks:
                quiet[outputs] |= ~masks[layer.name].flatten(1).any(1).cpu() & gone[self._record.sets(outputs)]
            elif follows:
                quiet[outputs] = quiet[layer.inputs].expand_as(layer.outputs).flatten()
        for module, attribute, kept in self._silent(model, quiet):
            tensor = getattr(module, attribute).data
            tensor *= kept.reshape(*kept.shape, *[1] * (tensor.dim() - kept.dim())).to(tensor.device)
        return follow(replace(self._record.graph, model=model))

    def _silent(self, model: nn.Module, quiet: Tensor) -> list[tuple[nn.Module, str, Tensor]]:
        """As `silent`, for the units `quiet` (bool [size])."""
        kept = [
            (use.tensor, ~quiet[use.axes[0].flatten()])
            for use in self._record.uses
            if use.silent and use.axes[0] is not None
        ]
        kept += [(tensor, ~quiet[value.ids]) for tensor, value in self._record.bare.items()]
        found = []
        for tensor, stays in kept:
            module, _, attribute = tensor.rpartition(".")
            if not bool(stays.all()):
                found.append((model.get_submodule(module), attribute, stays))
        return found

    def _around(self, name: str | None) -> Tensor:
        """Sets that enter or leave an operation; all if it is not known."""
        record = self._record
        nodes = [node for node in record.graph.nodes if node.name == name]
        values = [record.values.get(other) for node in nodes for other in (node, *node.all_input_nodes)]
        met = [value.ids.flatten() for value in values if isinstance(value, Value)]
        return record.marked(met or [torch.arange(record.size)])

    def _why_not(self, sets: Tensor | None) -> str | None:
        if sets is None:
            return "channels cannot be followed through it, or the forward pass does not use it"
        for reason, marks in self._pins:
            if bool(marks[sets].any()):
                return f"these channels are coupled with {reason}"
        return None

    def _pinned(self, sets: Tensor, by: str) -> bool:
        return any(bool(marks[sets].any()) for reason, marks in self._pins if reason == by)

    def _meeting(self, side: Mapping[str, Tensor], sets: Tensor) -> list[str]:
        return [name for name in self.order if name not in self._depthwise and bool(torch.isin(side[name], sets).any())]
