"""Weights of the user's network in a file that any of its instances loads."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import nn

from scripts.files import write_bytes


def save_weights(model: nn.Module, path: Path) -> None:
    """The state of `model` as safetensors, atomically; shared tensors are stored once a name."""
    state = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    write_bytes(path, save(state))
