"""What filter and channel pruning of one layer means for the layers around it."""

import torch
from torch import Tensor, nn

from pruning.dependency.channels import Trace
from pruning.dependency.graph import describe


class Coupling:
    """Answers about the layers of a traced network, by module name."""

    def __init__(self, trace: Trace) -> None:
        self.order = list(dict.fromkeys(layer.name for layer in trace.layers))
        """Layers in execution order."""
        self.size = trace.size
        """The numbers of coupled sets are below it."""
        self.outputs = {layer.name: trace.sets(layer.outputs.ids) for layer in trace.layers}
        """Coupled set of every output channel of a layer."""
        self.inputs = {layer.name: trace.sets(layer.inputs.ids) for layer in trace.layers}
        """Coupled set of every input channel of a layer."""
        self._norms = {norm.name: trace.sets(norm.ids) for norm in trace.norms}
        self._depthwise = {layer.name for layer in trace.layers if layer.depthwise}
        self._given = trace.marked(trace.network_inputs)
        self._returned = trace.marked(trace.network_outputs)
        self._opaque = [(describe(opaque.node), trace.marked([opaque.ids])) for opaque in trace.opaque]

    def reads_network_input(self, name: str) -> bool:
        """Whether the layer is the first on its path."""
        return name in self.inputs and bool(self._given[self.inputs[name]].any())

    def makes_network_output(self, name: str) -> bool:
        """Whether the layer's outputs are returned by the network."""
        return name in self.outputs and bool(self._returned[self.outputs[name]].any())

    def why_not_filters(self, name: str) -> str | None:
        """None, or the reason why output filters of the layer cannot be removed."""
        return self._why_not(name, self.outputs)

    def why_not_channels(self, name: str) -> str | None:
        """None, or the reason why input channels of the layer cannot be removed."""
        return self._why_not(name, self.inputs)

    def _why_not(self, name: str, side: dict[str, Tensor]) -> str | None:
        if name not in side:
            return "channels cannot be followed through it, or the forward pass does not use it"
        sets = side[name]
        if bool(self._given[sets].any()):
            return "these channels are coupled with the network's inputs"
        if bool(self._returned[sets].any()):
            return "these channels are coupled with the network's outputs"
        for operation, marks in self._opaque:
            if bool(marks[sets].any()):
                return f"these channels meet {operation}, which channels cannot be followed through"
        makers = [
            maker
            for maker, outputs in self.outputs.items()
            if maker not in self._depthwise and bool(torch.isin(outputs, sets).any())
        ]
        if len(makers) > 1:
            return f"the outputs of {' and '.join(makers)} are added, so no one of them can lose channels alone"
        return None

    def silent(self, model: nn.Module, removed: Tensor) -> list[tuple[nn.Module, str, Tensor]]:
        """Tensors that have to be zero so that removed channels are constantly zero wherever they are read.

        Those are biases, batch norms' gamma, beta and running mean, and depthwise kernels behind removed filters.

        Args:
            removed: bool [size], the coupled sets whose filters are pruned.

        Returns:
            (module, name of its tensor, bool mask of the entries along axis 0 that stay).
        """
        found = []
        for name, sets in self.outputs.items():
            attributes = ("weight", "bias") if name in self._depthwise else ("bias",)
            found += [(name, attribute, ~removed[sets]) for attribute in attributes]
        for name, sets in self._norms.items():
            found += [(name, attribute, ~removed[sets]) for attribute in ("weight", "bias", "running_mean")]
        modules = [(model.get_submodule(name), attribute, kept) for name, attribute, kept in found if not kept.all()]
        return [
            (module, attribute, kept) for module, attribute, kept in modules if getattr(module, attribute) is not None
        ]
