"""One layer of a shrunken network: enough to build it, to count it and to predict its latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from pruning import Sparsity
from supernet.errors import InvalidLayers, InvalidSpace

LayerKind = Literal["conv", "depthwise", "global_pool", "linear"]
Activation = Literal["none", "relu", "hard_swish"]

_ACTIVATIONS: tuple[str, ...] = get_args(Activation)
_KINDS: tuple[str, ...] = get_args(LayerKind)


def check_activation(name: str) -> None:
    """Raises InvalidSpace unless there is an activation of that name."""
    if name not in _ACTIVATIONS:
        raise InvalidSpace(f"activation {name!r} is unknown; there are {', '.join(_ACTIVATIONS)}")


@dataclass(frozen=True)
class Layer:
    """A layer as it is after pruned filters and channels have been removed.

    Attributes:
        name: path of the module that holds the weights, such as `sites.2.conv1`.
        kind: what it computes. Convolutions have no bias, padding kernel // 2, and batch norm behind them.
        size: height and width of the input.
        activation: applied last, behind the shortcut's addition.
        residual: whether the input of the site is added to the output of the batch norm.
        sparsity: what is left to mask in the shrunken weights; filters and channels are gone, so they never stand here.
        site: index of the searched site, None for stem, head and classifier.
    """

    name: str
    kind: LayerKind
    in_channels: int
    out_channels: int
    size: int
    kernel: int
    stride: int
    activation: Activation
    residual: bool
    sparsity: Sparsity
    site: int | None

    @property
    def block(self) -> str:
        """Path of the module that the layer is part of, such as `sites.2`."""
        return self.name.rpartition(".")[0]

    @property
    def output_size(self) -> int:
        """Height and width of the output."""
        if self.kind in ("global_pool", "linear"):
            return 1
        return (self.size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """[out, in / groups, kernel, kernel] of a convolution, [out, in] of a linear layer, [] of a pool."""
        if self.kind == "global_pool":
            return ()
        if self.kind == "linear":
            return self.out_channels, self.in_channels
        return self.out_channels, 1 if self.kind == "depthwise" else self.in_channels, self.kernel, self.kernel

    @property
    def macs(self) -> float:
        """Multiply-accumulates for one image that are left by the sparsity; 0 for a pool."""
        shape = self.weight_shape
        if not shape:
            return 0.0
        weights = 1
        for extent in shape:
            weights *= extent
        scheme, rate = self.sparsity.scheme, self.sparsity.rate
        kept = scheme.kept_groups(shape, rate) / scheme.group_count(shape)
        return weights * kept * self.output_size**2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"sparsity": str(self.sparsity)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Layer:
        """Inverse of `to_dict`.

        Raises:
            InvalidLayers: fields are missing or unknown, or the kind or activation is unknown.
        """
        try:
            layer = cls(**{**values, "sparsity": Sparsity.parse(values["sparsity"])})
        except (TypeError, KeyError) as error:
            raise InvalidLayers(
                f"a layer needs exactly the fields {', '.join(cls.__annotations__)}: {error}"
            ) from error
        if layer.kind not in _KINDS or layer.activation not in _ACTIVATIONS:
            raise InvalidLayers(
                f"layer {layer.name!r} has kind {layer.kind!r} and activation {layer.activation!r}; "
                f"kinds are {', '.join(_KINDS)}, activations {', '.join(_ACTIVATIONS)}"
            )
        return layer
