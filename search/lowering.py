"""From a candidate to the kernels that its compiled network executes, without building the network."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from compiler import Call, KernelSpec, Target, find_target, schedule, sequence
from pruning import Sparsity
from search.model_lowering import ModelLowering
from search.structure import reached_structure
from supernet import Candidate, ChoiceSpace, Layer, ModelSpace, SearchSpace


def kernel_specs(space: ChoiceSpace, candidate: Candidate, device: str | Target = "local") -> tuple[KernelSpec, ...]:
    """The kernels of `compile_model(extract(supernet, candidate), device)`, in execution order, for one image.

    Those of a `ModelSpace` are told by `ModelLowering`.

    Raises:
        InvalidCandidate: the candidate is not of this space.
    """
    target = find_target(device)
    if isinstance(space, ModelSpace):
        return _model_lowering(space, target).kernel_specs(candidate)
    assert isinstance(space, SearchSpace)
    layers = space.layers(candidate)
    calls = []
    tensor = shortcut = "input"
    site: int | None = None
    for layer in layers:
        if layer.site != site:
            shortcut, site = tensor, layer.site
        reads = (tensor, shortcut) if layer.residual else (tensor,)
        calls.append(Call(layer.name, layer_spec(layer), reads, layer.name))
        tensor = layer.name
    first = layers[0]
    inputs = {"input": (first.in_channels, first.size, first.size)}
    return tuple(call.spec for call in sequence(calls, inputs, [tensor], target))


def timed_specs(space: ChoiceSpace, candidate: Candidate, device: str | Target = "local") -> tuple[KernelSpec, ...]:
    """Kernels that take as long as those of `kernel_specs`, to predict with.

    Where computing zeros is cheaper than skipping them, that is what is done, and the kernel takes as long as
    the dense one: a search has to see that such pruning gains nothing.

    Raises:
        InvalidCandidate: the candidate is not of this space.
    """
    target = find_target(device)
    return tuple(_timed(spec, target) for spec in kernel_specs(space, candidate, target))


@lru_cache(maxsize=1 << 16)
def _timed(spec: KernelSpec, target: Target) -> KernelSpec:
    if spec.sparsity.dense or schedule(spec, target).form == "sparse":
        return spec
    return replace(spec, sparsity=Sparsity())


@lru_cache(maxsize=4)
def _model_lowering(space: ModelSpace, target: Target) -> ModelLowering:
    """Captured once: it takes seconds, and a search asks for thousands of candidates."""
    return ModelLowering(space, space.model, target)


@lru_cache(maxsize=1 << 16)
def layer_spec(layer: Layer) -> KernelSpec:
    """The kernel of one layer, everything behind it fused into it."""
    if layer.kind == "global_pool":
        return KernelSpec("global_pool", layer.in_channels, layer.out_channels, layer.size, layer.size)
    return KernelSpec(
        op=_operation(layer),
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        height=layer.size,
        width=layer.size,
        kernel=(layer.kernel, layer.kernel),
        stride=(layer.stride, layer.stride),
        padding=(layer.kernel // 2, layer.kernel // 2),
        groups=layer.in_channels if layer.kind == "depthwise" else 1,
        epilogue=_epilogue(layer),
        sparsity=reached_structure(layer.weight_shape, layer.sparsity),
    )


def _operation(layer: Layer) -> str:
    """A 1x1 convolution of a 1x1 image is a matrix product."""
    return "linear" if layer.kind == "conv" and layer.size == layer.kernel == 1 else layer.kind


def _epilogue(layer: Layer) -> tuple[str, ...]:
    add = ("add",) if layer.residual else ()
    return add if layer.activation == "none" else (*add, layer.activation)
