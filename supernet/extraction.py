"""From a view of the shared weights to a network of its own."""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import nn

from supernet.candidate import Candidate

Extracted = TypeVar("Extracted", bound=nn.Module, covariant=True)


class Shared(Protocol[Extracted]):
    """Weights that all candidates share: a `SuperNet`, or an `OwnModel`."""

    def extract(self, candidate: Candidate, *, masked: bool = True) -> Extracted: ...


def extract(shared: Shared[Extracted], candidate: Candidate, *, masked: bool = True) -> Extracted:
    """A plain network with copies of the candidate's weights: channels removed, weights masked.

    In evaluation mode its output equals that of `shared` for the candidate. Of a `SuperNet` it is a `Network` with the
    layers `space.layers(candidate)`; of an `OwnModel` a module of the user's class.

    Args:
        masked: False leaves the weights that survive dense, for a pruning algorithm that starts from them.

    Raises:
        InvalidCandidate: the candidate is not of the space.
    """
    return shared.extract(candidate, masked=masked)
