"""From a view of the shared weights to a network of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from supernet.candidate import Candidate
from supernet.network import Network
from supernet.supernet import SuperNet


def extract(supernet: SuperNet, candidate: Candidate, *, masked: bool = True) -> Network:
    """A plain network with copies of the candidate's weights: channels removed, weights masked.

    In evaluation mode its output equals the supernet's for the candidate. Its layers are `space.layers(candidate)`.

    Args:
        masked: False leaves the weights that survive dense, for a pruning algorithm that starts from them.

    Raises:
        InvalidCandidate: the candidate is not of the space.
    """
    chain = supernet.space.chain(candidate)
    selection = supernet.selector()(chain)
    state: dict[str, Tensor] = {}
    with torch.no_grad():
        for node, mask in zip(chain.convolutions, selection.masks, strict=True):
            _, bn = supernet.parts(node)
            weight = supernet.weight(node)
            rows = _survivors(selection.channels[node.target], node.layer.out_channels)
            columns = _survivors(selection.channels[node.source], weight.shape[1])
            if mask is not None and masked:
                weight = weight * mask
            weight = weight[rows] if node.layer.kind == "depthwise" else weight[rows][:, columns]
            state[f"{node.layer.name}.weight"] = weight.clone()
            norm = f"{node.layer.block}.bn{node.conv + 1}"
            for key, tensor in bn.state_dict().items():
                state[f"{norm}.{key}"] = (tensor[rows] if tensor.ndim else tensor).clone()
        for key, tensor in supernet.classifier.state_dict().items():
            state[f"classifier.{key}"] = tensor.clone()
    return Network.with_state(chain.layers, state).train(supernet.training)


def _survivors(alive: Tensor | None, width: int) -> Tensor | slice:
    return slice(width) if alive is None else alive.nonzero().squeeze(1)
