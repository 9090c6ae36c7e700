"""The kernels that a network would be compiled to, found without generating code."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from compiler.capture import Captured
from compiler.ordering import Call
from compiler.passes import PASSES, Pass
from compiler.plan import kernel_calls
from compiler.target import Target, find_target


class Lowering:
    """A network that is traced once, and lowered as often as its weights change.

    The weights may be changed in place only; the network is asked for its kernels in evaluation mode and left as it is.

    Args:
        model, example_inputs, device, passes: as for `compile_model`.

    Raises:
        CaptureFailed, UnsupportedOperator, InvalidWeights, MixedSamples: see `compile_model`.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Sequence[Tensor] | Tensor,
        device: str | Target = "local",
        *,
        passes: Sequence[Pass] = PASSES,
    ) -> None:
        inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
        self._captured = Captured(model, inputs)
        self._target = find_target(device)
        self._passes = tuple(passes)

    def calls(self) -> tuple[Call, ...]:
        """The kernels in execution order; `layer` is the path of the module that each one computes.

        Raises:
            UnsupportedOperator, InvalidWeights: see `compile_model`.
        """
        graph = self._captured.graph()
        for transform in self._passes:
            graph = transform(graph)
        return kernel_calls(graph, self._target)
