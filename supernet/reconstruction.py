"""Replacement operators learn to give what the layer gave whose place they take (NPAS, 2012.00596, section 5.2)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor, nn

from supernet.errors import ReconstructionFailed
from supernet.model_space import LayerSite
from supernet.own_model import OwnModel
from training import Dataset, batches


@dataclass(frozen=True)
class _Pupil:
    """A replacement and the layer that it imitates."""

    site: str
    operator: str
    module: nn.Module


def pretrain_replacements(
    own: OwnModel,
    dataset: Dataset,
    *,
    steps: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    augment: str = "none",
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Trains every replacement, in place, on the inputs and outputs of its layer in the network as it is.

    All other layers are frozen, so that the replacements learn beside one another from the same pass of the network.
    The loss is the mean squared difference divided by the variance of the layer's output, the optimizer Adam with a
    cosine. The seed alone decides the pictures; torch's global random state is left as it was.

    Returns:
        A row a replacement: `site`, `operator`, `error_before` and `error_after`, the losses of the first step and the
        mean of the last ten; 1 is as bad as the layer's mean.

    Raises:
        ReconstructionFailed: an error is not finite; nothing was changed.
    """
    pupils = list(_pupils(own))
    if not pupils:
        return pd.DataFrame(columns=["site", "operator", "error_before", "error_after"])
    before = copy.deepcopy(own.replacements.state_dict())
    optimizer = torch.optim.Adam([weight for pupil in pupils for weight in pupil.module.parameters()], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    errors: list[list[float]] = []
    modes = [(module, module.training) for module in own.modules()]
    own.eval()
    try:
        for step, images in zip(range(steps), _pictures(dataset, batch_size, augment, seed), strict=False):
            seen = _watched(own.network, dict.fromkeys(pupil.site for pupil in pupils), images)
            losses = [_error(pupil.module(seen[pupil.site][0]), seen[pupil.site][1]) for pupil in pupils]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            errors.append([loss.item() for loss in losses])
            if not torch.tensor(errors[-1]).isfinite().all():
                own.replacements.load_state_dict(before)
                worst = next(p for p, loss in zip(pupils, losses, strict=True) if not bool(loss.isfinite()))
                raise ReconstructionFailed(
                    f"step {step + 1}: {worst.operator} in the place of {worst.site!r} has the error {errors[-1]}; "
                    "look for non-finite weights or pictures, or lower the learning rate. Nothing was changed"
                )
            optimizer.step()
            schedule.step()
            if on_step is not None:
                on_step(step + 1)
    finally:
        for module, mode in modes:
            module.training = mode
    last = errors[-10:]
    return pd.DataFrame(
        {
            "site": pupil.site,
            "operator": pupil.operator,
            "error_before": errors[0][i],
            "error_after": sum(row[i] for row in last) / len(last),
        }
        for i, pupil in enumerate(pupils)
    )


def _pupils(own: OwnModel) -> Iterator[_Pupil]:
    for index, site in enumerate(own.space.sites):
        if isinstance(site, LayerSite) and str(index) in own.replacements:
            family = own.replacements[str(index)]
            assert isinstance(family, nn.ModuleDict)
            for operator, module in family.items():
                yield _Pupil(site.name, operator, module)


def _pictures(dataset: Dataset, batch_size: int, augment: str, seed: int) -> Iterator[Tensor]:
    generator = Generator().manual_seed(seed)
    while True:
        for images, _ in batches(dataset.train, batch_size, generator=generator, augment=augment):
            yield images


@torch.no_grad()
def _watched(network: nn.Module, names: Iterable[str], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Input and output of each of the layers on a batch."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = inputs[0].clone(), output.clone()

        return hook

    handles = [network.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _error(found: Tensor, expected: Tensor) -> Tensor:
    return (found - expected).square().mean() / expected.var().clamp_min(1e-12)
