"""The groups of the configuration that a command has, and what each may be set to, for its help."""

from __future__ import annotations

from importlib.resources import files

from omegaconf import OmegaConf


def groups(*names: str) -> str:
    """A line for each group: `data: cifar10, digits`."""
    lines = []
    for name in names:
        options = sorted(entry.name.removesuffix(".yaml") for entry in files("conf").joinpath(name).iterdir())
        lines.append(f"{name}: {', '.join(option for option in options if not option.startswith('_'))}")
    return "\n".join(lines)


def register() -> None:
    """Let configurations say `${groups:data,device}`."""
    OmegaConf.register_new_resolver("groups", groups, replace=True)
