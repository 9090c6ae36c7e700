"""Libraries of patterns: which positions of a kernel may stay together."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pruning.selection import IN_CACHE

ENOUGH = 2048
"""Kernels that a library is distilled from; of more, so many are taken evenly."""


def closest(kernels: Tensor, library: Tensor) -> tuple[Tensor, Tensor]:
    """The pattern of a library that retains most energy of each kernel; among equals the first.

    Args:
        kernels: energies [positions, kernels].
        library: bool [patterns, positions], at most 256 patterns.

    Returns:
        The retained energy [kernels], and the pattern bool [kernels, positions].
    """
    parts = [_closest(part, library) for part in torch.split(kernels, IN_CACHE, 1)]
    energies, indices = zip(*parts, strict=True)
    return torch.cat(energies), library.index_select(0, torch.cat(indices).int())


def _closest(kernels: Tensor, library: Tensor) -> tuple[Tensor, Tensor]:
    best = retained(kernels, library[0])
    index = torch.zeros(kernels.shape[1], dtype=torch.uint8, device=kernels.device)
    for number, pattern in enumerate(library[1:], start=1):
        energy = retained(kernels, pattern)
        index.masked_fill_(energy > best, number)
        torch.maximum(best, energy, out=best)
    return best, index


def retained(kernels: Tensor, pattern: Tensor) -> Tensor:
    """Energy [kernels] that a pattern, bool [positions], retains of each of the `kernels` [positions, kernels]."""
    first, *others = pattern.nonzero().flatten().tolist()
    energy = kernels[first].clone()
    for position in others:
        energy += kernels[position]
    return energy


def derive(kernels: Tensor, natural: Callable[[Tensor], Tensor], choices: Tensor, count: int) -> Tensor:
    """The library of `count` of the `choices` for these kernels, in the order of the choices.

    A layer whose kernels have no more than `count` patterns already keeps them. Otherwise patterns are taken greedily,
    each time the one that raises the retained energy most, which reaches 1 - 1/e of the best library's. (Voting for
    patterns, as in PatDNN, 2001.00138, spends places on near-duplicates.)

    Args:
        kernels: energies [positions, kernels].
        natural: of such kernels the choice that retains most energy of each, bool [positions, kernels].
        choices: bool [choices, positions].
    """
    live = (kernels.amax(0) > 0).nonzero().flatten()
    present = torch.zeros(2 ** len(kernels), dtype=torch.bool, device=kernels.device)
    for part in torch.split(live, IN_CACHE):
        present[_codes(natural(kernels[:, part]))] = True
        if int(present.sum()) > count:
            sample = live[:: math.ceil(len(live) / ENOUGH)]
            return choices[_greedy(kernels[:, sample], choices, count)]
    used = present[_codes(choices.T)]
    return choices[used] if bool(used.any()) else choices[:1]


def _codes(patterns: Tensor) -> Tensor:
    """A number for each pattern of bool [positions, patterns]."""
    codes = torch.zeros(patterns.shape[1], dtype=torch.int64, device=patterns.device)
    for position, present in enumerate(patterns):
        codes.add_(present, alpha=2**position)
    return codes


def _greedy(kernels: Tensor, choices: Tensor, count: int) -> Tensor:
    """Marks the choices taken, bool [choices]."""
    energy = torch.stack([retained(kernels, choice) for choice in choices])
    reached = torch.zeros_like(energy[0])
    taken = torch.zeros(len(choices), dtype=torch.bool, device=kernels.device)
    for _ in range(min(count, len(choices))):
        gains = (energy - reached).clamp_(min=0).sum(1).masked_fill_(taken, -1)
        best = gains.argmax()
        taken[best] = True
        torch.maximum(reached, energy[best], out=reached)
    return taken
