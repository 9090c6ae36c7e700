"""Networks in files: those of a supernet with their structure, those of the user's own with their candidate."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from scripts import inputs
from scripts.errors import CheckpointMismatch
from supernet import Candidate, Network, OwnModel, extract
from training.checkpoint import load_checkpoint, save_checkpoint

FORMAT = "npas own network 1"


def save(network: nn.Module, candidate: Candidate, path: Path) -> None:
    """Write weights, and structure or candidate, to one safetensors file, in one step."""
    if isinstance(network, Network):
        network.save(path)
    else:
        save_checkpoint(path, {"format": FORMAT, "candidate": candidate.to_json(), "state": network.state_dict()})


def load(config: DictConfig, path: Path) -> nn.Module:
    """The network of a file that `save` wrote, in evaluation mode; one of the user's own is built by their function.

    Raises:
        CheckpointNotFound, CheckpointCorrupt: there is no such file, or it is damaged.
        CheckpointMismatch: the file is of another network than `model` now builds.
    """
    content = load_checkpoint(path)
    if content.get("format") != FORMAT:
        return Network.load(path).eval()
    supernet = inputs.supernet(config, inputs.dataset(config))
    if not isinstance(supernet, OwnModel):
        raise CheckpointMismatch(path, "it is a network of the user's own, and the space is not own_model")
    network = extract(supernet, Candidate.from_json(content["candidate"]), masked=False)
    try:
        network.load_state_dict(content["state"])
    except RuntimeError as error:
        raise CheckpointMismatch(path, str(error)) from error
    return network.eval()
