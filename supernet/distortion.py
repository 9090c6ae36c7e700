"""How far each choice moves the outputs of the whole network, told from one batch before anything is evaluated.

A choice puts Z in the place of the layer output Y of the network as it is, and the logits move by about J (Z - Y), J
being their derivative by Y. Its squared length is the mean of (v^T J (Z - Y))^2 over v ~ N(0, I), and v^T J of all
layers comes out of one backward pass (Hutchinson 1990). Logits count without what all of them have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernet.candidate import Candidate, Choice
from supernet.choice_space import ChoiceSpace
from supernet.errors import DistortionFailed

Distortions = tuple[NDArray[np.float64], ...]
"""A site's array has one number a choice, in the order of `space.choices(site)`."""

DIRECTIONS = 4
LEAST = 1e-6
"""Of a channel's deviation, relative to what it should be: below it is rounding."""

_OTHERWISE = "or search without distortions: +search.options.distortions=null"


class Changeable(Protocol):
    """Weights of all candidates, of which one site at a time can be changed: a `SuperNet`, or an `OwnModel`."""

    @property
    def space(self) -> ChoiceSpace: ...

    def extract(self, candidate: Candidate, *, masked: bool = True) -> nn.Module: ...

    def places(self, site: int) -> tuple[str, ...]:
        """Paths of the modules, in the network of the largest candidate, that are others under a choice of the site."""

    def stand_ins(self, site: int, choice: Choice) -> tuple[nn.Module, ...]:
        """Copies to be put there, in training mode, under a choice. Channels that go give zeros, or are not read."""


class _Watch:
    """Keeps what a module reads and writes once, [N, ...], and the gradients there, [DIRECTIONS, N, ...]."""

    def __init__(self, module: nn.Module) -> None:
        self.read = self.written = self.gradients = torch.empty(0)
        self._hook = module.register_forward_hook(self._see)

    def _see(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        self._hook.remove()
        self.read, self.written = inputs[0].detach().clone(), output
        return output.clone()  # what comes next may write into what it reads


def distortions(
    shared: Changeable, images: Tensor, *, seed: int = 0, on_site: Callable[[int], None] | None = None
) -> Distortions:
    """Mean squared change of the logits under each choice alone, to first order, relative to their variance.

    0 for the largest candidate's choices. Z is taken with the mean and the deviation that Y has in each channel, as
    batch norms are recalibrated before anything is evaluated; those within Z use the statistics of the images. Neither
    the shared weights nor torch's global random state are changed.

    Args:
        images: [N, C, H, W], at least 2.
        seed: of the directions v.
        on_site: called after every site with the number of those that are done.

    Raises:
        DistortionFailed: outputs, or what a choice does to them, are not finite, or no gradient gets to a site.
    """
    space, largest = shared.space, shared.space.largest()
    sites = range(len(space.site_names))
    network = shared.extract(largest).eval()
    watched = {path: _Watch(network.get_submodule(path)) for site in sites for path in shared.places(site)}
    with torch.enable_grad():
        logits = network(images.detach().clone().requires_grad_())
    logits = logits - logits.mean(1, keepdim=True)
    scale = float(logits.detach().var(0, correction=0).sum())
    if not scale > 0:
        raise DistortionFailed(
            f"the variance of the outputs over {len(images)} pictures is {scale}: look for non-finite or zero weights, "
            f"and for pictures that are all alike, {_OTHERWISE}"
        )
    _differentiate(logits, watched, seed)
    found = []
    for site, kept in zip(sites, largest.choices, strict=True):
        choices = space.choices(site)
        moved = (0.0 if choice == kept else _moved(shared, site, choice, watched) / scale for choice in choices)
        values = np.fromiter(moved, dtype=np.float64)
        if not np.isfinite(values).all():
            worst = choices[int(np.argmin(np.isfinite(values)))]
            raise DistortionFailed(
                f"{worst} at site {space.site_names[site]!r} moves the outputs by something that is not finite: look "
                f"for non-finite weights, {_OTHERWISE}"
            )
        found.append(values)
        if on_site is not None:
            on_site(site + 1)
    return tuple(found)


def _differentiate(logits: Tensor, watched: Mapping[str, _Watch], seed: int) -> None:
    """Gives every watch its v^T J."""
    generator = torch.Generator().manual_seed(seed)
    outputs = [watch.written for watch in watched.values()]
    passes = []
    for last in range(DIRECTIONS - 1, -1, -1):
        v = torch.randn(logits.shape, generator=generator).to(logits)
        found: Sequence[Tensor | None] = [None] * len(outputs)
        if logits.requires_grad and all(output.requires_grad for output in outputs):
            found = torch.autograd.grad(logits, outputs, v, retain_graph=last > 0, allow_unused=True)
        for path, gradient in zip(watched, found, strict=True):
            if gradient is None:
                raise DistortionFailed(
                    f"no gradient gets from the outputs to {path!r}, so that it cannot be told what changes there do. "
                    f"Take out what stops it (detach, no_grad), {_OTHERWISE}"
                )
        passes.append([gradient for gradient in found if gradient is not None])
    for watch, gradients in zip(watched.values(), zip(*passes, strict=True), strict=True):
        watch.gradients = torch.stack(gradients)


@torch.no_grad()
def _moved(shared: Changeable, site: int, choice: Choice, watched: Mapping[str, _Watch]) -> float:
    """Mean squared length of J (Z - Y); what several modules do adds up."""
    total = torch.zeros(())
    for path, module in zip(shared.places(site), shared.stand_ins(site, choice), strict=True):
        watch = watched[path]
        found = _recalibrated(module(watch.read), watch.written, -1 if isinstance(module, nn.Linear) else 1)
        total = total + ((found - watch.written) * watch.gradients).flatten(2).sum(2).square().mean(0).mean()
    return float(total)


def _recalibrated(found: Tensor, expected: Tensor, axis: int) -> Tensor:
    """`found` with every channel's mean and deviation as expected; a channel without deviation is its mean."""
    over = [dim for dim in range(found.ndim) if dim != axis % found.ndim]
    deviation, mean = torch.std_mean(found, over, correction=0, keepdim=True)
    wanted, middle = torch.std_mean(expected, over, correction=0, keepdim=True)
    scale: Tensor = torch.where(deviation > LEAST * wanted, wanted / deviation, 0)
    return (found - mean) * scale + middle
